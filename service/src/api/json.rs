//! JSON text to values that borrow from it; what both protocols' trees of values become.

use crate::error::{Location, Violation};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Values inside more lists and objects than this are [`Json::Deep`]: no field means anything there,
/// and a value of any depth takes no stack.
const MAX_DEPTH: usize = 100;

/// A JSON value; strings without escapes are slices of the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// Integers past `i64` give the end they are past.
    Integer(i64),
    Float(f64),
    String(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// In the text's order, duplicates and all.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
    /// Some value that is nested too deep for any use.
    Deep,
}

/// The entries of an object by name; of duplicates the last.
pub(crate) fn by_name<'a, 'b>(
    entries: impl IntoIterator<Item = &'b (Cow<'a, str>, Json<'a>)>,
) -> BTreeMap<&'b str, &'b Json<'a>>
where
    'a: 'b,
{
    entries.into_iter().map(|(name, value)| (&**name, value)).collect()
}

/// Parses a whole text.
///
/// # Errors
/// `json_invalid` with the position in characters; also for lone surrogates, `NaN` and invalid UTF-8.
pub(crate) fn parse(text: &[u8]) -> Result<Json<'_>, Violation> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = Depth(0).deserialize(&mut deserializer);
    let parsed = parsed.and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| invalid(position(text, &error)))
}

/// What text that is no JSON is told.
pub(crate) fn invalid(position: usize) -> Violation {
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

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null | Json::Deep => Self::Null,
            Json::Bool(value) => value.into(),
            Json::Integer(value) => value.into(),
            Json::Float(value) => value.into(),
            Json::String(text) => text.into_owned().into(),
            Json::List(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(entries) => {
                let entries = entries.into_iter();
                entries.map(|(name, value)| (name.into_owned(), Self::from(value))).collect()
            }
        }
    }
}

/// In how many lists and objects a value is.
#[derive(Clone, Copy)]
struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        if self.0 == MAX_DEPTH {
            // Passed over without recursion.
            IgnoredAny::deserialize(deserializer).map(|_| Json::Deep)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Depth {
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
        while let Some(item) = items.next_element_seed(Depth(self.0 + 1))? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            object.push((key.0, entries.next_value_seed(Depth(self.0 + 1))?));
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
