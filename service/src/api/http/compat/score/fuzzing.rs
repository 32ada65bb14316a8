//! See `api::fuzzing`.

use super::{LEFT, RIGHT, score_fields};
use crate::api::fuzzing::admit;
use crate::api::http::body;
use crate::api::http::compat::fuzzing::{assert_refused, object, optional, text, texts, tokens};
use crate::rerank::MAX_TOTAL_BYTES;
use serde_json::{Map, Value};

/// A `/score` body gives the pairs that it says, in their order, or a refusal.
pub(in super::super) fn score_body(bytes: &[u8]) {
    let expected = object(bytes).as_ref().and_then(expected);
    let limits = admit(None).limits;
    match (body::parse(bytes, score_fields), expected) {
        (Ok(fields), Some((left, right))) => {
            assert_eq!((&fields.left, &fields.right), (&left, &right));
            match fields.into_requests(&limits) {
                Ok(requests) => {
                    let pairs = requests.iter().flat_map(|request| {
                        request.documents.iter().map(|document| (&request.query, document))
                    });
                    let all = left.iter().cycle().zip(&right);
                    assert!(pairs.eq(all), "{left:?} and {right:?}");
                }
                Err(error) if left.len() == 1 || left.len() == right.len() => {
                    let bytes: usize = right.iter().map(String::len).sum();
                    let most = left.iter().map(String::len).max().unwrap_or(0) + 150;
                    let bytes = bytes + most * right.len();
                    assert!(bytes as u64 > MAX_TOTAL_BYTES, "`{error}` at {bytes} bytes");
                }
                Err(error) => assert_refused(error),
            }
        }
        (Err(error), None) => assert_refused(error),
        (Ok(fields), None) => panic!("accepted: {:?} and {:?}", fields.left, fields.right),
        (Err(error), Some(expected)) => panic!("`{error}`, but it says {expected:?}"),
    }
}

/// Both sides; none: anything is wrong.
fn expected(object: &Map<String, Value>) -> Option<(Vec<String>, Vec<String>)> {
    optional(object, "model", text)?;
    tokens(object)?;
    optional(object, "use_activation", Value::as_bool)?;
    Some((side(object, &LEFT)?, side(object, &RIGHT)?))
}

/// The texts under the first of `names` that is given.
fn side(object: &Map<String, Value>, names: &[&str]) -> Option<Vec<String>> {
    let given = |name: &&&str| object.get(**name).is_some_and(|value| !value.is_null());
    let value = object.get(*names.iter().find(given)?)?;
    text(value).map(|text| vec![text]).or_else(|| texts(value))
}
