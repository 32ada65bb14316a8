//! The bodies, each in the shape of the provider's OpenAPI document.

use crate::api::canned::{COLLECTION, CREATED_AT, ID, Links, PATH, SCORE, TEXT};
use crate::error::Error;
use crate::rerank;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

/// The hosted model's.
const DIMENSIONS: usize = 2560;
/// What the hosted API embeds at a time; more would be a large answer to a small request.
const MAX_INPUTS: usize = 2048;

/// A request whose fields are taken as they are.
pub(super) struct Asked {
    pub(super) fields: Map<String, Value>,
    /// The query string asks for what follows a path.
    pub(super) is_next_page: bool,
    /// This server's address for clients.
    pub(super) base: String,
}

impl Asked {
    fn text<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or(otherwise)
    }

    fn flag(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// One text or several.
    fn texts(&self, name: &str) -> Vec<&str> {
        match self.fields.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text],
            _ => Vec::new(),
        }
    }

    fn count(&self, name: &str) -> Option<usize> {
        let value = self.fields.get(name)?.as_u64()?;
        usize::try_from(value).ok().filter(|value| *value > 0)
    }

    fn file_url(&self) -> String {
        Links(&self.base).document()
    }

    fn image_url(&self) -> String {
        Links(&self.base).page_image()
    }

    /// The document as a hit of a query.
    fn hit(&self, metadata: &str) -> Value {
        let metadata = self.flag(metadata).then(|| json!({}));
        json!({"path": PATH, "score": SCORE, "metadata": metadata, "file_url": self.file_url()})
    }

    fn content(&self) -> Option<&'static str> {
        self.flag("include_content").then_some(TEXT)
    }
}

pub(super) fn success(_: &Asked) -> Value {
    json!({"message": "Success!"})
}

pub(super) fn collection_list(_: &Asked) -> Value {
    json!({"collection_names": [COLLECTION]})
}

pub(super) fn deleted_paths(asked: &Asked) -> Value {
    json!({"deleted_paths": asked.texts("path")})
}

pub(super) fn document_info(asked: &Asked) -> Value {
    json!({"document": {
        "id": ID,
        "collection_name": asked.text("collection_name", COLLECTION),
        "path": asked.text("path", PATH),
        "metadata": {},
        "index_status": "indexed",
        "size": TEXT.len(),
        "num_pages": null,
        "file_url": asked.file_url(),
        "content": asked.content(),
    }})
}

/// One document on the first page, none on any other: the clients ask until a page is empty.
pub(super) fn document_info_list(asked: &Asked) -> Value {
    let path_gt = asked.fields.get("path_gt").is_some_and(|path| !path.is_null());
    if path_gt || asked.is_next_page {
        return json!({"documents": []});
    }
    json!({"documents": [{
        "id": ID,
        "collection_name": asked.text("collection_name", COLLECTION),
        "path": format!("{}{PATH}", asked.text("path_prefix", "")),
        "metadata": {},
        "index_status": "indexed",
        "created_at": CREATED_AT.to_string(),
        "size": TEXT.len(),
        "num_pages": null,
        "file_url": asked.file_url(),
    }]})
}

pub(super) fn page_info(asked: &Asked) -> Value {
    json!({"page": {
        "id": ID,
        "collection_name": asked.text("collection_name", COLLECTION),
        "path": asked.text("path", PATH),
        "page_index": asked.count("page_index").unwrap_or(0),
        "content": asked.content(),
        "image_url": asked.image_url(),
    }})
}

pub(super) fn top_documents(asked: &Asked) -> Value {
    json!({"results": [asked.hit("include_metadata")]})
}

pub(super) fn top_pages(asked: &Asked) -> Value {
    json!({
        "results": [{
            "path": PATH,
            "page_index": 0,
            "score": SCORE,
            "content": asked.content(),
            "image_url": asked.image_url(),
        }],
        "document_results": [asked.hit("include_metadata")],
    })
}

pub(super) fn top_snippets(asked: &Asked) -> Value {
    json!({
        "results": [{
            "path": PATH,
            "start_index": 0,
            "end_index": TEXT.len(),
            "page_span": [0, 1],
            "content": TEXT,
            "score": SCORE,
        }],
        "document_results": [asked.hit("include_document_metadata")],
    })
}

pub(super) fn status(_: &Asked) -> Value {
    json!({
        "num_documents": 1,
        "num_parsing_documents": 0,
        "num_indexing_documents": 0,
        "num_indexed_documents": 1,
        "num_failed_documents": 0,
        "num_indexed_bytes": TEXT.len(),
    })
}

/// A vector for each text, of length 1 and the same for the same text.
pub(super) fn embeddings(asked: &Asked) -> Result<Value, Error> {
    let texts = asked.texts("input");
    if texts.len() > MAX_INPUTS {
        return Err(Error::TooManyDocuments { documents: texts.len(), limit: MAX_INPUTS });
    }
    let dimensions = asked.count("dimensions").or_else(|| asked.count("output_dimensions"));
    let dimensions = dimensions.unwrap_or(DIMENSIONS).min(DIMENSIONS);
    let format = asked.text("encoding_format", asked.text("output_format", "float"));
    let results = texts.iter().map(|text| {
        let vector = embedding(text, dimensions);
        if format == "base64" {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            json!({"embedding": BASE64_STANDARD.encode(bytes)})
        } else {
            json!({"embedding": vector})
        }
    });
    let results: Vec<Value> = results.collect();
    let total_bytes = rerank::total_bytes("", &texts);
    let usage = json!({"total_bytes": total_bytes, "total_tokens": total_bytes.div_ceil(4)});
    Ok(json!({"results": results, "usage": usage}))
}

/// Numbers from a hash of the text (FNV-1a) and a generator of Knuth's (MMIX).
fn embedding(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Never zero, so that the length is not.
        (state >> 40) as f32 + 0.5 - (1 << 23) as f32
    };
    let vector: Vec<f32> = (0..dimensions).map(|_| next()).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / length).collect()
}
