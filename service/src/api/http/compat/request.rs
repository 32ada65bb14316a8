//! The requests of other APIs to ours.

use super::super::body::Fields;
use crate::api::convert::RerankFields;
use crate::api::json::Json;
use crate::error::{Error, Location, Violation};
use reranker_engine::Cuts;
use std::borrow::Cow;
use std::num::NonZeroUsize;

/// A request by the API that it is written for. What is wrong with it comes with it, so that the
/// error can be written for that API too.
pub(super) enum Asked {
    /// Text Embeddings Inference: it has `texts`.
    Tei(Result<Tei, Error>),
    /// All others.
    Union(Result<Union, Error>),
}

/// A request of Text Embeddings Inference.
pub(super) struct Tei {
    pub(super) fields: RerankFields,
    pub(super) raw_scores: bool,
    pub(super) return_text: bool,
}

/// A request of Cohere, Jina, Voyage or vLLM.
pub(super) struct Union {
    pub(super) fields: RerankFields,
    /// None: as the route's API has it.
    pub(super) return_documents: Option<bool>,
    /// Scores before the sigmoid.
    pub(super) raw_scores: bool,
}

impl Asked {
    pub(super) fn take(fields: &mut Fields<'_>) -> Self {
        if !fields.contains("texts") {
            return Self::take_union(fields);
        }
        let request = Tei {
            fields: RerankFields {
                model: fields.optional_string("model"),
                query: fields.string("query"),
                documents: fields.strings("texts"),
                top_n: None,
                latency: None,
                cuts: Cuts::default(),
            },
            raw_scores: fields.optional_bool("raw_scores").unwrap_or(false),
            return_text: fields.optional_bool("return_text").unwrap_or(false),
        };
        Self::Tei(fields.verdict(request))
    }

    pub(super) fn take_union(fields: &mut Fields<'_>) -> Self {
        let model = fields.optional_string("model");
        let query = fields.string("query");
        let rank_fields = fields.optional_strings("rank_fields");
        let documents = documents(fields, rank_fields.as_deref());
        let [top_n, top_k] = ["top_n", "top_k"].map(|name| count(fields, name));
        let request = Union {
            fields: RerankFields {
                model,
                query,
                documents,
                top_n: top_n.or(top_k),
                latency: None,
                cuts: cuts(fields),
            },
            return_documents: fields.optional_bool("return_documents"),
            raw_scores: fields.optional_bool("use_activation") == Some(false),
        };
        Self::Union(fields.verdict(request))
    }
}

/// A number of results; none: all.
fn count(fields: &mut Fields<'_>, name: &'static str) -> Option<NonZeroUsize> {
    let value = fields.optional_integer(name)?;
    let value = if value < 0 {
        Err(Violation {
            kind: "greater_than_equal",
            location: vec![Location::Field(name)],
            message: "Input should be greater than or equal to 0",
        })
    } else {
        Ok(usize::try_from(value).unwrap_or(usize::MAX))
    };
    fields.checked(value).and_then(NonZeroUsize::new)
}

/// The token limits under their names in all APIs; the lowest holds. Below 1 they mean the model's
/// own, as vLLM's 0 and -1 do.
pub(super) fn cuts(fields: &mut Fields<'_>) -> Cuts {
    let mut limit = |name| {
        let tokens = usize::try_from(fields.optional_integer(name)?).ok()?;
        Some(tokens).filter(|tokens| *tokens > 0)
    };
    let document =
        ["max_tokens_per_doc", "max_doc_length", "truncate_prompt_tokens"].map(&mut limit);
    Cuts {
        query_tokens: limit("max_tokens_per_query"),
        document_tokens: document.into_iter().flatten().min(),
    }
}

/// Strings, or objects with `text` or with the `rank_fields`.
fn documents(fields: &mut Fields<'_>, rank_fields: Option<&[String]>) -> Vec<String> {
    let items = fields.list("documents");
    let texts = items.into_iter().enumerate().map(|(index, item)| {
        let at = || vec![Location::Field("documents"), Location::Index(index)];
        match (item, rank_fields) {
            (Json::String(text), _) => text.into_owned(),
            (Json::Object(entries), Some(names)) => {
                lines(&entries, names).unwrap_or_else(|| fields.wrong_string(at()))
            }
            (Json::Object(entries), None) => {
                let location = [at(), vec![Location::Field("text")]].concat();
                match last(&entries, "text") {
                    Some(Json::String(text)) => text.to_string(),
                    Some(_) => fields.wrong_string(location),
                    None => {
                        fields.violate("missing", location, "Field required");
                        String::new()
                    }
                }
            }
            _ => fields.wrong_string(at()),
        }
    });
    texts.collect()
}

/// `name: value` a line, in the names' order; names that the object lacks are left out. None if a
/// value is a list or an object.
fn lines(entries: &[(Cow<'_, str>, Json<'_>)], names: &[String]) -> Option<String> {
    let mut lines = Vec::new();
    for name in names {
        match last(entries, name) {
            None | Some(Json::Null) => {}
            Some(Json::String(text)) => lines.push(format!("{name}: {text}")),
            Some(Json::Bool(value)) => lines.push(format!("{name}: {value}")),
            Some(Json::Integer(value)) => lines.push(format!("{name}: {value}")),
            Some(Json::Float(value)) => lines.push(format!("{name}: {value}")),
            Some(Json::List(_) | Json::Object(_) | Json::Deep) => return None,
        }
    }
    Some(lines.join("\n"))
}

fn last<'a, 'b>(entries: &'b [(Cow<'a, str>, Json<'a>)], name: &str) -> Option<&'b Json<'a>> {
    entries.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
}
