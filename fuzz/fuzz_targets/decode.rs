//! Any bytes through every codec: nothing may panic, and every answer ends once.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::decode(data));
