//! Any bytes, any cuts: the event-stream framer must never depend on the cuts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::sse(data));
