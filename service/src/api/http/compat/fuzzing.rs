//! See `api::fuzzing`.

use super::request::{Asked, Tei, Union};
use super::score;
use crate::api::convert::RerankFields;
use crate::api::fuzzing::check_limits;
use crate::api::http::body;
use crate::api::http::fuzzing::is_too_deep;
use crate::error::Error;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// A body of another API, read as `serde_json` reads it, with that API's rules applied by hand. The first
/// byte is the route: `2` for `/v2/rerank`, `s` for `/score`, else the others.
pub fn compat_body(bytes: &[u8]) {
    match bytes.split_first() {
        Some((_, body)) if is_too_deep(body) => {}
        Some((b's', body)) => score::fuzzing::score_body(body),
        Some((b'2', body)) => rerank_body(body, Asked::take_union, expected_union),
        Some((_, body)) => rerank_body(body, Asked::take, expected),
        None => {}
    }
}

fn rerank_body(
    bytes: &[u8],
    take: fn(&mut body::Fields<'_>) -> Asked,
    expected: fn(&Object) -> Option<Seen>,
) {
    let read = body::parse(bytes, take).and_then(|asked| match asked {
        Asked::Tei(Ok(Tei { fields, raw_scores, return_text })) => {
            let seen = seen(true, &fields, raw_scores, Some(return_text));
            Ok((fields, seen))
        }
        Asked::Union(Ok(Union { fields, return_documents, raw_scores })) => {
            let seen = seen(false, &fields, raw_scores, return_documents);
            Ok((fields, seen))
        }
        Asked::Tei(Err(error)) | Asked::Union(Err(error)) => Err(error),
    });
    match (read, object(bytes).as_ref().and_then(expected)) {
        (Ok((fields, seen)), Some(expected)) => {
            assert_eq!(seen, expected);
            check_limits(fields);
        }
        (Err(error), None) => assert_refused(error),
        (Ok((_, seen)), None) => panic!("accepted: {seen:?}"),
        (Err(error), Some(expected)) => panic!("`{error}`, but it says {expected:?}"),
    }
}

/// What is wrong with a body is the caller's fault, and said in no more words than it has.
pub(super) fn assert_refused(error: Error) {
    let Error::InvalidRequest(violations) = &error else { panic!("{error}") };
    assert!((1..=100).contains(&violations.len()), "{} violations", violations.len());
    assert_eq!(error.into_response().status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[derive(Debug, PartialEq)]
struct Seen {
    tei: bool,
    model: Option<String>,
    query: String,
    documents: Vec<String>,
    top_n: Option<usize>,
    /// Of the query, of a document.
    tokens: [Option<usize>; 2],
    raw_scores: bool,
    return_texts: Option<bool>,
}

fn seen(tei: bool, fields: &RerankFields, raw_scores: bool, return_texts: Option<bool>) -> Seen {
    let RerankFields { model, query, documents, top_n, latency: _, cuts } = fields;
    Seen {
        tei,
        model: model.clone(),
        query: query.clone(),
        documents: documents.clone(),
        top_n: top_n.map(std::num::NonZeroUsize::get),
        tokens: [cuts.query_tokens, cuts.document_tokens],
        raw_scores,
        return_texts,
    }
}

/// None: anything is wrong.
fn expected(object: &Object) -> Option<Seen> {
    if object.get("texts").is_none_or(Value::is_null) {
        return expected_union(object);
    }
    Some(Seen {
        tei: true,
        model: optional(object, "model", text)?,
        query: text(object.get("query")?)?,
        documents: texts(object.get("texts")?)?,
        top_n: None,
        tokens: [None; 2],
        raw_scores: optional(object, "raw_scores", Value::as_bool)?.unwrap_or(false),
        return_texts: Some(optional(object, "return_text", Value::as_bool)?.unwrap_or(false)),
    })
}

fn expected_union(object: &Object) -> Option<Seen> {
    let names = optional(object, "rank_fields", texts)?;
    let documents = object.get("documents")?.as_array()?.iter();
    let documents = documents.map(|one| document(one, names.as_deref())).collect::<Option<_>>()?;
    let count = |name| optional(object, name, |value| usize::try_from(integer(value)?).ok());
    let (top_n, top_k) = (count("top_n")?, count("top_k")?);
    Some(Seen {
        tei: false,
        model: optional(object, "model", text)?,
        query: text(object.get("query")?)?,
        documents,
        top_n: [top_n, top_k].into_iter().flatten().find(|count| *count > 0),
        tokens: tokens(object)?,
        raw_scores: optional(object, "use_activation", Value::as_bool)? == Some(false),
        return_texts: optional(object, "return_documents", Value::as_bool)?,
    })
}

fn document(value: &Value, names: Option<&[String]>) -> Option<String> {
    let Value::Object(object) = value else { return text(value) };
    let Some(names) = names else { return text(object.get("text")?) };
    let mut lines = Vec::new();
    for name in names {
        match object.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(_) | Value::Object(_)) => return None,
            Some(Value::String(text)) => lines.push(format!("{name}: {text}")),
            Some(Value::Bool(value)) => lines.push(format!("{name}: {value}")),
            Some(Value::Number(number)) if number.is_f64() => {
                lines.push(format!("{name}: {}", number.as_f64()?));
            }
            Some(number) => lines.push(format!("{name}: {}", integer(number)?)),
        }
    }
    Some(lines.join("\n"))
}

/// The limits of the query and of a document; each must be right, and the least counts.
pub(super) fn tokens(object: &Object) -> Option<[Option<usize>; 2]> {
    let limit = |name| {
        let tokens = optional(object, name, integer)?;
        Some(tokens.and_then(|tokens| usize::try_from(tokens).ok()).filter(|tokens| *tokens > 0))
    };
    let document = ["max_tokens_per_doc", "max_doc_length", "truncate_prompt_tokens"];
    let document = document.into_iter().map(limit).collect::<Option<Vec<_>>>()?;
    Some([limit("max_tokens_per_query")?, document.into_iter().flatten().min()])
}

pub(super) fn object(bytes: &[u8]) -> Option<Object> {
    serde_json::from_slice(bytes).ok()
}

/// None if it is wrong, and none inside if it is not given.
#[expect(clippy::option_option, reason = "wrong, not given and given are three things")]
pub(super) fn optional<T>(
    object: &Object,
    name: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Option<Option<T>> {
    match object.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => read(value).map(Some),
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

/// A whole number, written with a fraction or without; past `i64` the end it is past.
fn integer(value: &Value) -> Option<i64> {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0)?;
    let past = || value.as_u64().map(|_| i64::MAX);
    Some(value.as_i64().or_else(past).unwrap_or(whole as i64))
}
