//! Documents, filters and queries, all of few words.

use super::COLLECTION;
use proptest::prelude::{Just, Strategy, prop, prop_oneof};
use proptest::sample::select;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use reranker::collection::{DocumentText, Pages};
use reranker_proto::v1::add_document_request::Content;
use reranker_proto::v1::metadata_value::Value as Attribute;
use reranker_proto::v1::{self, AddDocumentRequest, MetadataValue, TextList};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// None of these is another's stem.
const WORDS: [&str; 8] = ["otter", "heron", "river", "stone", "moss", "fern", "lake", "reed"];

/// A document.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) text: DocumentText,
    pub(super) kind: String,
    pub(super) tags: Vec<String>,
}

impl Kept {
    /// What adds it.
    pub(super) fn request(&self, path: &str) -> AddDocumentRequest {
        let count = self.text.pages.count().unwrap_or(0);
        let page = |index: u32| self.text.page(index.into()).unwrap_or_default().to_owned();
        let pages = v1::Pages { texts: (0..count).map(page).collect() };
        let content = match &self.text.pages {
            Pages::None => Content::Text(self.text.text.clone()),
            Pages::Ordered(_) => Content::Pages(pages),
            Pages::Unordered(_) => Content::UnorderedPages(pages),
        };
        let kind = Attribute::Text(self.kind.clone());
        let tags = Attribute::List(TextList { texts: self.tags.clone() });
        let metadata = [("kind", kind), ("list:tags", tags)]
            .map(|(name, value)| (name.to_owned(), MetadataValue { value: Some(value) }));
        AddDocumentRequest {
            collection_name: COLLECTION.to_owned(),
            path: path.to_owned(),
            content: Some(content),
            metadata: metadata.into(),
            overwrite: false,
        }
    }
}

/// A filter in three languages.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) json: Value,
    pub(super) keeps: fn(&Kept) -> bool,
}

pub(super) fn choices() -> [Choice; 5] {
    [
        Choice { json: json!(null), keeps: |_| true },
        Choice { json: json!({"kind": "1"}), keeps: |kept| kept.kind == "1" },
        Choice {
            json: json!({"$or": [{"kind": {"$gt": "1"}}, {"list:tags": {"$in": ["a", "z"]}}]}),
            keeps: |kept| kept.kind.as_str() > "1" || kept.tags.contains(&"a".to_owned()),
        },
        Choice {
            json: json!({"nobody": {"$ne": "x"}, "kind": {"$ne": "0"}}),
            keeps: |kept| kept.kind != "0",
        },
        Choice { json: json!({"nobody": "x"}), keeps: |_| false },
    ]
}

pub(super) fn structure(json: &Value) -> Option<Struct> {
    let entries = json.as_object()?.iter().map(|(name, json)| (name.clone(), value(json)));
    Some(Struct { fields: entries.collect() })
}

fn value(json: &Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(value).collect() })
        }
        Value::Object(_) => Kind::StructValue(structure(json).unwrap_or_default()),
    };
    prost_types::Value { kind: Some(kind) }
}

fn words(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let word =
        prop_oneof![8 => select(&WORDS[..]), 1 => Just("a."), 1 => Just("é\n"), 1 => Just("the")];
    prop::collection::vec(word, count).prop_map(|words| words.join(" "))
}

fn text() -> impl Strategy<Value = DocumentText> {
    let page = || prop_oneof![4 => words(1..60), 1 => Just(String::new())];
    prop_oneof![
        4 => words(1..40).prop_map(DocumentText::plain),
        1 => words(400..1500).prop_map(DocumentText::plain),
        1 => Just(DocumentText::plain(String::new())),
        2 => prop::collection::vec(page(), 1..6).prop_map(|pages| DocumentText::paged(&pages, true)),
        2 => prop::collection::vec(page(), 1..6).prop_map(|pages| DocumentText::paged(&pages, false)),
    ]
}

pub(super) fn documents() -> impl Strategy<Value = BTreeMap<String, Kept>> {
    let tags = prop::collection::vec(select(vec!["a".to_owned(), "b".to_owned()]), 0..2);
    let kept = (text(), 0..3_u8, tags).prop_map(|(text, kind, tags)| Kept {
        text,
        kind: kind.to_string(),
        tags,
    });
    prop::collection::vec(kept, 24).prop_map(|kept| {
        // Added in another order than that of the paths, and one a second time: its scores are equal.
        let named =
            kept.into_iter().enumerate().map(|(n, kept)| (format!("{:02}", n * 7 % 24), kept));
        let mut documents: BTreeMap<_, _> = named.collect();
        if let Some(first) = documents.values().find(|kept| !kept.text.text.is_empty()).cloned() {
            documents.insert("again".to_owned(), first);
        }
        documents
    })
}

/// A query with how many results it wants.
pub(super) fn query(most: i64) -> impl Strategy<Value = (String, i64, Choice)> {
    let text =
        prop_oneof![6 => words(1..4), 1 => Just(String::new()), 1 => Just("ibis".to_owned())];
    (text, prop_oneof![3 => 1..12_i64, 1 => Just(most)], select(choices().to_vec()))
}
