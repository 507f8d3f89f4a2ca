//! Mistakes of people: the answer to each of 32 common ones, by number. `m07_` tests the seventh; those of providers' own
//! refusals (24, 25) are tests of routing.

mod addresses;
mod command_line;
mod configuration;
mod requests;
