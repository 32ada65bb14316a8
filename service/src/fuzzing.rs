//! Entry points of the fuzz targets; no part of the library's interface.
//!
//! Each takes any bytes and panics if the service would treat them wrongly.

pub use crate::api::grpc::fuzzing::{grpc_rerank_message, grpc_stream_message, grpc_timeout};
pub use crate::api::http::fuzzing::{compat_body, http_rerank_body, http_timeouts};

use crate::auth::Keys;

/// The parsers of single headers: the first byte says which.
pub fn headers(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'g', rest)) => grpc_timeout(rest),
        Some((_, rest)) => http_timeouts(rest),
        None => {}
    }
}

/// A keys file lets in exactly those whom its lines name, and its mistakes are told without its text.
pub fn keys_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Keys::parse(text) {
        Ok(keys) => {
            assert!((1..=text.lines().count()).contains(&keys.count()));
            assert!(keys.check(None).is_err() && keys.check(Some(b"Bearer ")).is_err());
            for line in text.lines() {
                // A line of one plain word is a key; a digest lets nobody in who sends the digest.
                let is_plain = !line.is_empty() && line.bytes().all(|b| b.is_ascii_alphanumeric());
                let found = keys.check(Some(format!("Bearer {line}").as_bytes()));
                assert!(!is_plain || line == "read_only" || found.is_ok(), "`{line}`");
                assert!(!line.starts_with("sha256:") || found.is_err(), "`{line}`");
            }
        }
        Err(error) => {
            let longest = text.split_whitespace().max_by_key(|word| word.len()).unwrap_or_default();
            // Longer than any word of ours.
            assert!(longest.len() < 24 || !error.contains(longest), "{error}");
        }
    }
}
