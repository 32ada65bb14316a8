//! The keys file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::keys_file(bytes));
