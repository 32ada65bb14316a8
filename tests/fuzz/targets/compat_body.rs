//! Bodies of the routes of other APIs, against `serde_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::compat_body(bytes));
