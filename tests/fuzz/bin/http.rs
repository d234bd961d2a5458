#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| anweddol_fuzz::run("http", input));
