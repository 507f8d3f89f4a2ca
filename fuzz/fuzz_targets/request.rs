//! Any text through every request reader and writer: nothing may panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::request(data));
