//! Any text: edited JSON must stay JSON and keep what was not edited.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::json_edit(data));
