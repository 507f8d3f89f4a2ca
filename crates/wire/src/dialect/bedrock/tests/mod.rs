//! Answers as events, requests as values, which the golden files of callers cannot show.

mod answers;
mod requests;
