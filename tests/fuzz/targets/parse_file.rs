//! Files of documents: the first byte says which ending the path has.

#![no_main]

// Readers may panic, which their caller catches; what it does not catch still ends the process.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| reranker::fuzzing::parse_file(bytes)
);
