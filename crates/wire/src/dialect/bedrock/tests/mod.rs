//! Answers as events, requests as values: what the golden files of callers cannot show.

mod answers;
mod requests;
