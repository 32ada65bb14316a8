//! Metadata of messages.

use crate::api::convert::documents::Attributes;
use crate::collection::{Metadata, MetadataValue};
use crate::error::{Error, Location, Violation};
use reranker_proto::v1;
use reranker_proto::v1::metadata_value::Value;
use std::collections::HashMap;

/// Attributes in the field `metadata`, not checked yet.
pub(super) fn attributes(wire: HashMap<String, v1::MetadataValue>) -> Result<Attributes, Error> {
    let mut violations = Vec::new();
    let mut attributes = Attributes::new();
    for (name, v1::MetadataValue { value }) in wire {
        match value {
            Some(Value::Text(text)) => drop(attributes.insert(name, MetadataValue::One(text))),
            Some(Value::List(v1::TextList { texts })) => {
                attributes.insert(name, MetadataValue::Many(texts));
            }
            None => violations.push(Violation {
                kind: "missing",
                location: vec![Location::Field("metadata"), Location::key(&name)],
                message: "Field required",
            }),
        }
    }
    if violations.is_empty() { Ok(attributes) } else { Err(Error::InvalidRequest(violations)) }
}

/// Metadata as messages have it.
pub(super) fn wire(metadata: &Metadata) -> HashMap<String, v1::MetadataValue> {
    let attributes = metadata.attributes().iter().map(|(name, value)| {
        let value = match value {
            MetadataValue::One(text) => Value::Text(text.clone()),
            MetadataValue::Many(texts) => Value::List(v1::TextList { texts: texts.clone() }),
        };
        (name.clone(), v1::MetadataValue { value: Some(value) })
    });
    attributes.collect()
}
