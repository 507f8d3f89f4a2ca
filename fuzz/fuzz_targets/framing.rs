//! Any bytes, any cuts: the framers must never depend on the cuts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::framing(data));
