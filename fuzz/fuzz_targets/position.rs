//! Any text as the position of a reader: it must have one spelling, and nothing may panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::position(data));
