//! Metadata in answers.

use crate::collection::{Metadata, MetadataValue};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// An object of strings and lists of strings.
pub(super) struct MetadataBody<'a>(pub(super) &'a Metadata);

impl Serialize for MetadataBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes = self.0.attributes();
        let mut object = serializer.serialize_map(Some(attributes.len()))?;
        for (name, value) in attributes {
            match value {
                MetadataValue::One(text) => object.serialize_entry(name, text)?,
                MetadataValue::Many(texts) => object.serialize_entry(name, texts)?,
            }
        }
        object.end()
    }
}
