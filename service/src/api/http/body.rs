//! A request's JSON, read the way the hosted API reads it.
//!
//! Every wrong field is reported at once, in pydantic's words. `null` in an optional field means
//! "not given"; unknown fields are ignored; of duplicate keys the last wins; integers may be
//! written `5` or `5.0`.

use crate::api::convert;
use crate::api::convert::documents::Attributes;
use crate::api::json::{self, Json, by_name};
use crate::api::{INLINE_BYTES, blocking};
use crate::collection::MetadataValue;
use crate::collection::filter::Filter;
use crate::error::{Error, Location, Violation};
use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// More wrong fields than this are not listed: an answer must not be longer than its request.
const MAX_VIOLATIONS: usize = 100;

const NOT_AN_OBJECT: &str = "Input should be a valid dictionary or object to extract fields from";

/// Reads a JSON object and takes its fields with `take`, where long ones hold up nobody.
///
/// # Errors
/// [`Error::InvalidRequest`] with all that is wrong; what the guard refuses.
#[tracing::instrument(name = "parse", skip_all)]
pub(super) async fn read<T: Send + 'static>(
    body: Body,
    take: fn(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    let bytes = collect(body).await?;
    parse_anywhere(bytes, take).await
}

async fn parse_anywhere<T: Send + 'static>(
    bytes: Bytes,
    take: fn(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    if bytes.len() <= INLINE_BYTES {
        return parse(&bytes, take);
    }
    blocking(move || parse(&bytes, take)).await
}

/// Reads a JSON object as [`read`] does, or nothing at all as an empty one.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_optional<T: Send + 'static>(
    body: Body,
    take: fn(&mut Fields<'_>) -> T,
) -> Result<T, Error> {
    let bytes = collect(body).await?;
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    parse_anywhere(bytes, take).await
}

/// Reads a JSON object, or nothing at all as an empty one, without a look at its fields.
///
/// # Errors
/// As [`read`].
pub(super) async fn object(body: Body) -> Result<Map<String, Value>, Error> {
    read_optional(body, |fields| {
        let entries = std::mem::take(&mut fields.entries).into_iter();
        entries.map(|(name, value)| (name.into_owned(), value.into())).collect()
    })
    .await
}

async fn collect(mut body: Body) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.into_inner().downcast() {
            // The guard's: too large, too slow, too many.
            Ok(refused) => *refused,
            // The client went away or broke the framing; few such clients read an answer.
            Err(_) => Error::InvalidRequest(vec![json::invalid(bytes.len())]),
        })?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes.into())
}

pub(super) fn parse<T>(bytes: &[u8], take: fn(&mut Fields<'_>) -> T) -> Result<T, Error> {
    let mut fields =
        Fields::parse(bytes).map_err(|violation| Error::InvalidRequest(vec![violation]))?;
    let taken = take(&mut fields);
    fields.verdict(taken)
}

/// The fields of a request that nobody has taken yet, and what was wrong with those taken.
///
/// A field that is wrong gives an empty value; the caller never sees it, see [`parse`].
pub(super) struct Fields<'a> {
    entries: Vec<(Cow<'a, str>, Json<'a>)>,
    violations: Vec<Violation>,
}

impl<'a> Fields<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Violation> {
        let violation = |kind, message| Violation { kind, location: Vec::new(), message };
        if bytes.is_empty() {
            return Err(violation("missing", "Field required"));
        }
        match json::parse(bytes)? {
            Json::Object(entries) => Ok(Self { entries, violations: Vec::new() }),
            _ => Err(violation("model_attributes_type", NOT_AN_OBJECT)),
        }
    }

    /// A required string.
    pub(super) fn string(&mut self, name: &'static str) -> String {
        match self.required(name) {
            Some(Json::String(text)) => text.into_owned(),
            Some(_) => self.wrong_string(vec![Location::Field(name)]),
            None => String::new(),
        }
    }

    /// A string that may be null, but not missing.
    pub(super) fn nullable_string(&mut self, name: &'static str) -> Option<String> {
        match self.required(name)? {
            Json::Null => None,
            Json::String(text) => Some(text.into_owned()),
            _ => Some(self.wrong_string(vec![Location::Field(name)])),
        }
    }

    /// A string that may be missing or null.
    pub(super) fn optional_string(&mut self, name: &'static str) -> Option<String> {
        match self.optional(name)? {
            Json::String(text) => Some(text.into_owned()),
            _ => Some(self.wrong_string(vec![Location::Field(name)])),
        }
    }

    /// A string where other kinds of values may stand, which are left there.
    pub(super) fn string_if_one(&mut self, name: &str) -> Option<String> {
        let last = self.entries.iter().rev().find(|(key, _)| key == name);
        match last {
            Some((_, Json::String(text))) => {
                let text = text.to_string();
                self.take(name);
                Some(text)
            }
            _ => None,
        }
    }

    /// A required list of strings.
    pub(super) fn strings(&mut self, name: &'static str) -> Vec<String> {
        let items = self.list(name);
        self.all_strings(name, items)
    }

    /// A list of strings that may be missing or null.
    pub(super) fn optional_strings(&mut self, name: &'static str) -> Option<Vec<String>> {
        let value = self.optional(name)?;
        let items = self.items(name, value);
        Some(self.all_strings(name, items))
    }

    /// A string or a list of strings; required.
    pub(super) fn string_or_strings(&mut self, name: &'static str) -> Vec<String> {
        match self.required(name) {
            Some(Json::String(text)) => vec![text.into_owned()],
            Some(value) => {
                let items = self.items(name, value);
                self.all_strings(name, items)
            }
            None => Vec::new(),
        }
    }

    /// A required list of anything.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<Json<'a>> {
        self.required(name).map_or_else(Vec::new, |value| self.items(name, value))
    }

    fn items(&mut self, name: &'static str, value: Json<'a>) -> Vec<Json<'a>> {
        if let Json::List(items) = value {
            return items;
        }
        self.violate("list_type", vec![Location::Field(name)], "Input should be a valid list");
        Vec::new()
    }

    fn all_strings(&mut self, name: &'static str, items: Vec<Json<'a>>) -> Vec<String> {
        let strings = items.into_iter().enumerate().map(|(index, item)| match item {
            Json::String(text) => text.into_owned(),
            _ => self.wrong_string(vec![Location::Field(name), Location::Index(index)]),
        });
        strings.collect()
    }

    /// A boolean that may be missing or null.
    pub(super) fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        if let Json::Bool(value) = self.optional(name)? {
            return Some(value);
        }
        self.violate("bool_type", vec![Location::Field(name)], "Input should be a valid boolean");
        None
    }

    /// A required integer; one past `i64` gives the end it is past.
    pub(super) fn integer(&mut self, name: &'static str) -> i64 {
        let value = self.required(name);
        value.and_then(|value| self.as_integer(name, &value)).unwrap_or_default()
    }

    /// An integer that may be missing or null; one past `i64` gives the end it is past.
    pub(super) fn optional_integer(&mut self, name: &'static str) -> Option<i64> {
        let value = self.optional(name)?;
        self.as_integer(name, &value)
    }

    fn as_integer(&mut self, name: &'static str, value: &Json<'_>) -> Option<i64> {
        let (kind, message) = match *value {
            Json::Integer(value) => return Some(value),
            // The cast saturates, which is what is wanted.
            Json::Float(value) if value.fract() == 0.0 => return Some(value as i64),
            Json::Float(_) => (
                "int_from_float",
                "Input should be a valid integer, got a number with a fractional part",
            ),
            _ => ("int_type", "Input should be a valid integer"),
        };
        self.violate(kind, vec![Location::Field(name)], message);
        None
    }

    /// One of some words; may be missing or null.
    pub(super) fn optional_literal<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        violation: fn() -> Violation,
    ) -> Option<T> {
        let value = self.optional(name)?;
        let found = match &value {
            Json::String(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        self.checked(found.map(|&(_, value)| value).ok_or_else(violation))
    }

    /// Attributes of a document; may be missing or null.
    pub(super) fn optional_metadata(&mut self, name: &'static str) -> Option<Attributes> {
        let value = self.optional(name)?;
        let Json::Object(entries) = &value else {
            let location = vec![Location::Field(name)];
            self.violate("dict_type", location, "Input should be a valid dictionary");
            return None;
        };
        let attributes = by_name(entries).into_iter().map(|(attribute, value)| {
            let at = || vec![Location::Field(name), Location::key(attribute)];
            let value = match value {
                Json::List(items) => {
                    let texts = items.iter().enumerate().map(|(index, item)| match item {
                        Json::String(text) => text.to_string(),
                        _ => self.wrong_string([at(), vec![Location::Index(index)]].concat()),
                    });
                    MetadataValue::Many(texts.collect())
                }
                Json::String(text) => MetadataValue::One(text.to_string()),
                _ => MetadataValue::One(self.wrong_string(at())),
            };
            (attribute.to_owned(), value)
        });
        Some(attributes.collect())
    }

    /// Which documents count, or which rule of filters is broken; may be missing or null.
    pub(super) fn filter(&mut self, name: &'static str) -> Result<Filter, Error> {
        let value = self.take(name);
        convert::filter::filter(name, value.as_ref(), &mut |violation| self.push(violation))
    }

    /// Takes an object that says in `tag` which of several kinds it is; required. `take` gets its kind
    /// and its fields, or nothing is taken.
    pub(super) fn tagged<T, K: Copy>(
        &mut self,
        name: &'static str,
        tag: &'static str,
        kinds: &[(&'static str, K)],
        wrong_tag: &'static str,
        take: impl FnOnce(K, &mut Fields<'a>) -> T,
    ) -> Option<T> {
        let at = || vec![Location::Field(name)];
        let Json::Object(entries) = self.required(name)? else {
            self.violate("model_attributes_type", at(), NOT_AN_OBJECT);
            return None;
        };
        let mut inner = Self { entries, violations: Vec::new() };
        let Some(found) = inner.take(tag) else {
            let message = "Unable to extract tag using discriminator 'type'";
            self.violate("union_tag_not_found", at(), message);
            return None;
        };
        let kind =
            kinds.iter().find(|(word, _)| matches!(&found, Json::String(text) if text == word));
        let Some(&(word, kind)) = kind else {
            self.violate("union_tag_invalid", at(), wrong_tag);
            return None;
        };
        let taken = take(kind, &mut inner);
        for violation in inner.violations {
            self.push(violation.inside(word).inside(name));
        }
        Some(taken)
    }

    /// The value, or none and the violation is noted.
    pub(super) fn checked<T>(&mut self, value: Result<T, Violation>) -> Option<T> {
        value.map_err(|violation| self.push(violation)).ok()
    }

    /// Whether a field is given and nobody has taken it yet.
    pub(super) fn contains(&self, name: &str) -> bool {
        let last = self.entries.iter().rev().find(|(key, _)| key == name);
        last.is_some_and(|(_, value)| !matches!(value, Json::Null))
    }

    /// What was read, or all that was wrong with it.
    pub(super) fn verdict<T>(&mut self, read: T) -> Result<T, Error> {
        match std::mem::take(&mut self.violations) {
            violations if violations.is_empty() => Ok(read),
            violations => Err(Error::InvalidRequest(violations)),
        }
    }

    /// The last value of that name.
    fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let at = self.entries.iter().rposition(|(key, _)| key == name)?;
        // In order: an earlier duplicate of another field must stay earlier.
        Some(self.entries.remove(at).1)
    }

    fn optional(&mut self, name: &str) -> Option<Json<'a>> {
        self.take(name).filter(|value| !matches!(value, Json::Null))
    }

    fn required(&mut self, name: &'static str) -> Option<Json<'a>> {
        let value = self.take(name);
        if value.is_none() {
            self.violate("missing", vec![Location::Field(name)], "Field required");
        }
        value
    }

    /// Notes that this should be a string, and gives an empty one.
    pub(super) fn wrong_string(&mut self, location: Vec<Location>) -> String {
        self.violate("string_type", location, "Input should be a valid string");
        String::new()
    }

    /// Notes what is wrong.
    pub(super) fn violate(
        &mut self,
        kind: &'static str,
        location: Vec<Location>,
        message: &'static str,
    ) {
        self.push(Violation { kind, location, message });
    }

    fn push(&mut self, violation: Violation) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation);
        }
    }
}

#[cfg(test)]
mod tests;
