//! Entry points of the fuzz targets; no part of the library's interface.
//!
//! Each takes any bytes and panics if the service would treat them wrongly.

pub use crate::api::grpc::fuzzing::{grpc_rerank_message, grpc_stream_message, grpc_timeout};
pub use crate::api::http::fuzzing::{compat_body, http_rerank_body, http_timeouts};

use crate::auth::Keys;
use crate::collection::passages;
use crate::parse::{ParseLimits, parse};
use std::time::{Duration, Instant};

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

/// A file becomes text within the limits, which splits into passages, or is refused in time. The first byte says
/// which ending its path has.
pub fn parse_file(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let path = match kind {
        b'p' => "a.pdf",
        b'd' => "a.docx",
        b'c' => "a.csv",
        b'h' => "a.html",
        b'm' => "a.md",
        b't' => "a.txt",
        _ => "a",
    };
    let limits = ParseLimits {
        text_bytes: 1 << 20,
        pages: 100,
        expanded_bytes: 4 << 20,
        time: Duration::from_secs(4),
    };
    let started = Instant::now();
    if let Ok(document) = parse(path, file, &limits) {
        assert!(document.text.len() <= limits.text_bytes);
        assert!(document.pages.count().is_none_or(|pages| pages as usize <= limits.pages));
        let passages = passages::split(&document);
        for passage in passages.coarse.iter().chain(&passages.fine) {
            let text = &document.text[passage.bytes.start as usize..passage.bytes.end as usize];
            assert_eq!(text.trim(), text);
            assert_eq!(text.chars().count(), passage.chars.len());
        }
    }
    // What does not look at the clock itself is far shorter than that.
    assert!(started.elapsed() < 2 * limits.time, "it takes {:?}", started.elapsed());
}
