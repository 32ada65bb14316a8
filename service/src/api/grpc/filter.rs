//! Filters of messages, which are trees of JSON.

use crate::api::convert;
use crate::api::json::Json;
use crate::collection::filter::Filter;
use crate::error::Error;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::borrow::Cow;

/// The filter in the field `filter`. A message is nested 100 deep at most, which prost has checked.
pub(super) fn filter(wire: Option<Struct>) -> Result<Filter, Error> {
    let json = wire.map(object);
    let mut violations = Vec::new();
    let filter = convert::filter::filter("filter", json.as_ref(), &mut |violation| {
        violations.push(violation);
    });
    if violations.is_empty() { filter } else { Err(Error::InvalidRequest(violations)) }
}

fn object(Struct { fields }: Struct) -> Json<'static> {
    let entries = fields.into_iter().map(|(name, value)| (Cow::Owned(name), json(value)));
    Json::Object(entries.collect())
}

fn json(Value { kind }: Value) -> Json<'static> {
    match kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => Json::Float(number),
        Some(Kind::StringValue(text)) => Json::String(Cow::Owned(text)),
        Some(Kind::BoolValue(value)) => Json::Bool(value),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => Json::List(list.values.into_iter().map(json).collect()),
    }
}
