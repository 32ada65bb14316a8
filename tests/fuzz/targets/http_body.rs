//! Bodies of HTTP rerank requests, against `serde_json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reranker::fuzzing::http_rerank_body(bytes));
