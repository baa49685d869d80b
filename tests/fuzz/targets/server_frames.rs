//! Drives `server_frames` with libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| esockets_fuzz::server_frames(data));
