//! Changed capabilities and any text: nothing may be accepted but what was signed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| streamgate_fuzz::capability(data));
