//! Any bytes as those of a log, in every viewers' format: nothing may panic, and every answer ends once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::viewer(data));
