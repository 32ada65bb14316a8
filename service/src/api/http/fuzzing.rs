//! See `api::fuzzing`.

pub use super::compat::fuzzing::compat_body;

use super::{body, models, timeout};
use crate::api::convert::RerankFields;
use crate::api::fuzzing::{admit, check_limits};
use crate::error::Error;
use crate::rerank::Latency;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;
use std::time::Duration;

/// A rerank body is read as `serde_json` reads it, with the rules of the documentation applied by hand.
pub fn http_rerank_body(bytes: &[u8]) {
    if is_too_deep(bytes) {
        let _ = body::parse(bytes, models::rerank_fields);
        return;
    }
    match (body::parse(bytes, models::rerank_fields), expected(bytes)) {
        (Ok(fields), Some(expected)) => {
            assert_eq!(seen(&fields), expected);
            check_limits(fields);
        }
        (Err(error), None) => {
            let Error::InvalidRequest(violations) = &error else { panic!("{error}") };
            assert!((1..=100).contains(&violations.len()), "{} violations", violations.len());
            assert_eq!(error.into_response().status(), StatusCode::UNPROCESSABLE_ENTITY);
        }
        (Ok(fields), None) => panic!("accepted: {:?}", seen(&fields)),
        (Err(error), Some(expected)) => panic!("`{error}`, but it says {expected:?}"),
    }
}

/// Model, query, documents, `top_n`, whether latency is fast.
type Seen = (Option<String>, String, Vec<String>, Option<usize>, Option<bool>);

fn seen(fields: &RerankFields) -> Seen {
    let RerankFields { model, query, documents, top_n, latency, .. } = fields;
    let top_n = top_n.map(std::num::NonZeroUsize::get);
    let is_fast = latency.map(|latency| latency == Latency::Fast);
    (model.clone(), query.clone(), documents.clone(), top_n, is_fast)
}

/// None: anything is wrong.
fn expected(bytes: &[u8]) -> Option<Seen> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let given = |name| object.get(name).filter(|value| !value.is_null());
    let model = given("model").map(|value| text(value).ok_or(())).transpose().ok()?;
    let query = text(object.get("query")?)?;
    let documents = object.get("documents")?.as_array()?.iter().map(text).collect::<Option<_>>()?;
    let top_n = given("top_n").map(|value| top_n(value).ok_or(())).transpose().ok()?;
    let is_fast = match given("latency").map(Value::as_str) {
        None => None,
        Some(Some("fast")) => Some(true),
        Some(Some("slow")) => Some(false),
        Some(_) => return None,
    };
    Some((model, query, documents, top_n, is_fast))
}

/// A whole number from 1, written with a fraction or without.
fn top_n(value: &Value) -> Option<usize> {
    let number = value.as_f64().filter(|number| *number >= 1.0 && number.fract() == 0.0)?;
    let exact = value.as_u64().unwrap_or(number as u64);
    Some(exact.min(i64::MAX as u64) as usize)
}

/// The timeouts that the official clients send, a line each; any bytes may be in a header.
pub fn http_timeouts(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    let first = lines.next().unwrap_or_default();
    for (name, line) in ["x-stainless-read-timeout", "x-stainless-timeout"]
        .into_iter()
        .zip([first, lines.next().unwrap_or_default()])
    {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.insert(name, value);
        }
    }
    let timeout = timeout(&headers);
    admit(timeout);
    if (1..=9).contains(&first.len()) && first.iter().all(u8::is_ascii_digit) {
        let seconds = first.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        assert_eq!(timeout, Some(Duration::from_secs(seconds)).filter(|_| seconds > 0));
    }
}

/// Whether `serde_json` stops at the depth of the body, which is passed over here; see `api::json`.
pub(super) fn is_too_deep(bytes: &[u8]) -> bool {
    let is_deep = |error: serde_json::Error| error.to_string().starts_with("recursion limit");
    serde_json::from_slice::<Value>(bytes).is_err_and(is_deep)
}
