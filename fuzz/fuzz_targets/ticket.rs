//! Changed tickets and any text: nothing may be accepted but what was issued.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::ticket(data));
