//! JSON text to values that borrow from it.

use crate::error::{Location, Violation};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A JSON value; strings without escapes are slices of the text.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::api::http) enum Json<'a> {
    Null,
    Bool(bool),
    /// Integers past `i64` give the end they are past.
    Integer(i64),
    Float(f64),
    String(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// In the text's order, duplicates and all.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Parses a whole text.
///
/// # Errors
/// `json_invalid` with the position in characters; also for lone surrogates, `NaN`, invalid UTF-8
/// and values nested over 128 deep.
pub(super) fn parse(text: &[u8]) -> Result<Json<'_>, Violation> {
    serde_json::from_slice(text).map_err(|error| invalid(position(text, &error)))
}

/// What text that is no JSON is told.
pub(super) fn invalid(position: usize) -> Violation {
    Violation {
        kind: "json_invalid",
        location: vec![Location::Index(position)],
        message: "JSON decode error",
    }
}

/// `serde_json` counts lines and bytes, clients of the hosted API expect characters from 0.
fn position(text: &[u8], error: &serde_json::Error) -> usize {
    let line = error.line().saturating_sub(1);
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let start = std::iter::once(0).chain(ends).nth(line).unwrap_or(text.len());
    // Columns count from 1, but at the end of the text nothing has been read past it.
    let column = if error.is_eof() { error.column() } else { error.column().saturating_sub(1) };
    let byte = (start + column).min(text.len());
    String::from_utf8_lossy(&text[..byte]).chars().count()
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            object.push((key.0, entries.next_value()?));
        }
        Ok(Json::Object(object))
    }
}

/// A key; `Cow` alone would always copy.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(value.to_owned())))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(value)))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}
