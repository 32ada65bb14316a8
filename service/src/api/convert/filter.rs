//! A filter as clients write it, a tree of JSON, to the domain's [`Filter`].
//!
//! ```text
//! filter := { entry* }                     all must hold
//! entry  := "$and": [filter*] | "$or": [filter*] | attribute: cond
//! cond   := string | { op: operand, ... }  a string is `$eq`; all operators must hold
//! op     := $eq $ne $gt $gte $lt $lte : string | $in $nin : [string*]
//! ```
//!
//! A number, boolean or null anywhere is of the wrong type; all else that is wrong breaks a rule.

use crate::api::json::{Json, by_name};
use crate::collection::filter::{Comparison, Filter};
use crate::collection::is_attribute;
use crate::error::{Error, Location, Violation};
use std::collections::BTreeSet;

/// Filters in filters: each is a call on the stack of whoever reads them.
const MAX_DEPTH: usize = 32;

/// Comparisons in a filter: every document may be compared with each.
const MAX_CONDITIONS: usize = 4096;

/// Of the place of a wrong value so many steps are told: an answer must not be much longer than its
/// request.
const MAX_STEPS: usize = 8;

/// Reads the filter in the field `name`; without one, or null, all documents count. Values of a wrong
/// type go to `violate`, and then the filter has no meaning.
///
/// # Errors
/// [`Error::Invalid`]: the rule that it breaks.
pub(crate) fn filter(
    name: &'static str,
    value: Option<&Json<'_>>,
    violate: &mut impl FnMut(Violation),
) -> Result<Filter, Error> {
    match value {
        None | Some(Json::Null) => Ok(Filter::ALL),
        Some(value) => {
            check_types(value, &mut vec![Location::Field(name)], violate);
            let filter = all_of(value, 1)?;
            let conditions = filter.conditions();
            if conditions > MAX_CONDITIONS {
                return invalid(format!(
                    "a filter may have {MAX_CONDITIONS} comparisons, this one has {conditions}; `$in` and \
                     `$nin` compare with many strings at once"
                ));
            }
            Ok(filter)
        }
    }
}

fn check_types(value: &Json<'_>, at: &mut Vec<Location>, violate: &mut impl FnMut(Violation)) {
    match value {
        Json::Null | Json::Bool(_) | Json::Integer(_) | Json::Float(_) => violate(Violation {
            kind: "string_type",
            location: at.iter().take(MAX_STEPS).cloned().collect(),
            message: "Input should be a valid string",
        }),
        Json::String(_) | Json::Deep => {}
        Json::List(items) => {
            for (index, item) in items.iter().enumerate() {
                at.push(Location::Index(index));
                check_types(item, at, violate);
                at.pop();
            }
        }
        Json::Object(entries) => {
            for (name, value) in by_name(entries) {
                at.push(Location::key(name));
                check_types(value, at, violate);
                at.pop();
            }
        }
    }
}

/// A filter: an object whose entries must all hold.
fn all_of(value: &Json<'_>, depth: usize) -> Result<Filter, Error> {
    if depth > MAX_DEPTH {
        return invalid(format!("a filter may be nested {MAX_DEPTH} deep"));
    }
    let Json::Object(entries) = value else {
        return invalid("a filter is an object, such as `{\"author\": {\"$eq\": \"Ada\"}}`");
    };
    let filters = by_name(entries).into_iter().map(|(name, value)| match name {
        "$and" => filters(name, value, depth).map(Filter::And),
        "$or" => filters(name, value, depth).map(Filter::Or),
        _ => condition(name, value),
    });
    filters.collect::<Result<_, _>>().map(and)
}

fn filters(operator: &str, value: &Json<'_>, depth: usize) -> Result<Vec<Filter>, Error> {
    let Json::List(items) = value else {
        return invalid(format!("`{operator}` in a filter needs a list of filters"));
    };
    items.iter().map(|item| all_of(item, depth + 1)).collect()
}

/// What one attribute must be.
fn condition(attribute: &str, value: &Json<'_>) -> Result<Filter, Error> {
    let shown = shown(attribute);
    if attribute.starts_with('$') {
        return invalid(format!(
            "`{shown}` in a filter is no operator between filters; those are `$and` and `$or`"
        ));
    }
    if !is_attribute(attribute.strip_prefix("list:").unwrap_or(attribute)) {
        return invalid(format!(
            "attribute `{shown}` in a filter may have letters, digits, `-` and `_` only, after \
             `list:` if it holds a list"
        ));
    }
    match value {
        Json::String(_) => operation(attribute, "$eq", value),
        Json::Object(entries) => {
            let operations =
                by_name(entries).into_iter().map(|(name, value)| operation(attribute, name, value));
            operations.collect::<Result<_, _>>().map(and)
        }
        _ => invalid(format!(
            "attribute `{shown}` in a filter needs a string or operators, such as `{{\"$in\": \
             [\"a\", \"b\"]}}`"
        )),
    }
}

fn operation(attribute: &str, operator: &str, operand: &Json<'_>) -> Result<Filter, Error> {
    let comparison = match operator {
        "$eq" => Comparison::Equal,
        "$ne" | "$neq" => Comparison::NotEqual,
        "$gt" => Comparison::Greater,
        "$gte" => Comparison::GreaterOrEqual,
        "$lt" => Comparison::Less,
        "$lte" => Comparison::LessOrEqual,
        "$in" | "$nin" => {
            let attribute = attribute.to_owned();
            let operands = strings(operator, operand)?;
            return Ok(if operator == "$in" {
                Filter::In { attribute, operands }
            } else {
                Filter::NotIn { attribute, operands }
            });
        }
        _ => {
            return invalid(format!(
                "`{}` in a filter is no operator; those are `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, \
                 `$lte`, `$in` and `$nin`",
                shown(operator)
            ));
        }
    };
    if attribute.starts_with("list:") {
        return invalid(format!(
            "attribute `{}` in a filter holds a list; `$in` and `$nin` fit it, not `{operator}`",
            shown(attribute)
        ));
    }
    let Json::String(operand) = operand else {
        return invalid(format!("`{operator}` in a filter needs a string"));
    };
    let (attribute, operand) = (attribute.to_owned(), operand.to_string());
    Ok(Filter::Compare { attribute, comparison, operand })
}

fn strings(operator: &str, operand: &Json<'_>) -> Result<BTreeSet<String>, Error> {
    let text = |item: &Json<'_>| match item {
        Json::String(text) => Some(text.to_string()),
        _ => None,
    };
    let strings = match operand {
        Json::List(items) => items.iter().map(text).collect(),
        _ => None,
    };
    let message = || format!("`{operator}` in a filter needs a list of strings");
    strings.ok_or_else(|| Error::Invalid { message: message() })
}

/// One condition stands for itself.
fn and(mut filters: Vec<Filter>) -> Filter {
    match filters.pop() {
        Some(only) if filters.is_empty() => only,
        Some(last) => {
            filters.push(last);
            Filter::And(filters)
        }
        None => Filter::ALL,
    }
}

/// The start of a name that a client chose.
fn shown(name: &str) -> String {
    Location::key(name).to_string()
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid { message: message.into() })
}

#[cfg(test)]
mod tests;
