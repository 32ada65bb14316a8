//! What documents are filtered by.

use crate::error::Error;
use std::collections::BTreeMap;

/// Attributes of a document, checked: names are ASCII letters, digits, `-` and `_`, after `list:` for
/// attributes that hold several strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, MetadataValue>);

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// A string.
    One(String),
    /// Strings of a `list:` attribute.
    Many(Vec<String>),
}

impl Metadata {
    /// No attributes.
    pub const EMPTY: Self = Self(BTreeMap::new());

    /// Metadata as compact JSON must be shorter than this.
    pub const MAX_BYTES: usize = 65_536;

    /// Checks names, kinds and size. [`Error::Invalid`].
    pub fn new(attributes: BTreeMap<String, MetadataValue>) -> Result<Self, Error> {
        for (name, value) in &attributes {
            let plain = name.strip_prefix("list:");
            if !is_attribute(plain.unwrap_or(name)) {
                let message = format!(
                    "metadata attribute `{name}` may have letters, digits, `-` and `_` only, after \
                     `list:` if it holds a list"
                );
                return Err(Error::Invalid { message });
            }
            if plain.is_none() && matches!(value, MetadataValue::Many(_)) {
                let message =
                    format!("metadata attribute `{name}` holds a list; name it `list:{name}`");
                return Err(Error::Invalid { message });
            }
        }
        let metadata = Self(attributes);
        let bytes = metadata.to_json().len();
        if bytes >= Self::MAX_BYTES {
            let most = Self::MAX_BYTES - 1;
            let message = format!("metadata is {bytes} bytes of JSON; the limit is {most}");
            return Err(Error::Invalid { message });
        }
        Ok(metadata)
    }

    /// The attributes by name.
    pub fn attributes(&self) -> &BTreeMap<String, MetadataValue> {
        &self.0
    }

    /// Compact JSON: an object of strings and lists of strings.
    pub fn to_json(&self) -> String {
        let entries = self.0.iter().map(|(name, value)| {
            let value = match value {
                MetadataValue::One(text) => serde_json::Value::from(text.as_str()),
                MetadataValue::Many(texts) => serde_json::Value::from(texts.as_slice()),
            };
            (name.clone(), value)
        });
        serde_json::Value::Object(entries.collect()).to_string()
    }

    /// Reads what [`to_json`](Self::to_json) wrote; none if it is something else.
    pub fn from_json(json: &str) -> Option<Self> {
        let serde_json::Value::Object(entries) = serde_json::from_str(json).ok()? else {
            return None;
        };
        let attributes = entries.into_iter().map(|(name, value)| {
            let value = match value {
                serde_json::Value::String(text) => MetadataValue::One(text),
                value => MetadataValue::Many(serde_json::from_value(value).ok()?),
            };
            Some((name, value))
        });
        attributes.collect::<Option<_>>().map(Self)
    }
}

/// Whether an attribute may be called so, `list:` left out.
pub(crate) fn is_attribute(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed)
}
