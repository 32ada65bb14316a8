//! Headers that are read without a library: the callers' timeouts.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::headers(bytes));
