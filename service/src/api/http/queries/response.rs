//! Results to bodies.

use super::super::metadata::MetadataBody;
use crate::api::links::Links;
use crate::queries::{DocumentResult, PageResult, Results, SnippetResult};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct DocumentsBody<'a> {
    results: Vec<DocumentBody<'a>>,
}

impl<'a> DocumentsBody<'a> {
    pub(super) fn new(results: &'a [DocumentResult], with_metadata: bool, links: &Links) -> Self {
        Self { results: documents(results, with_metadata, links) }
    }
}

#[derive(Serialize)]
struct DocumentBody<'a> {
    path: &'a str,
    score: f64,
    metadata: Option<MetadataBody<'a>>,
    file_url: String,
}

fn documents<'a>(
    results: &'a [DocumentResult],
    with_metadata: bool,
    links: &Links,
) -> Vec<DocumentBody<'a>> {
    let bodies = results.iter().map(|DocumentResult { document, score }| DocumentBody {
        path: document.path.as_str(),
        score: *score,
        metadata: with_metadata.then_some(MetadataBody(&document.metadata)),
        file_url: links.document(document.id),
    });
    bodies.collect()
}

#[derive(Serialize)]
pub(super) struct PagesBody<'a> {
    results: Vec<PageBody<'a>>,
    document_results: Vec<DocumentBody<'a>>,
}

#[derive(Serialize)]
struct PageBody<'a> {
    path: &'a str,
    page_index: u32,
    score: f64,
    content: Option<&'a str>,
    image_url: Option<String>,
}

impl<'a> PagesBody<'a> {
    pub(super) fn new(found: &'a Results<PageResult>, with_metadata: bool, links: &Links) -> Self {
        let results = found.results.iter().map(|page| {
            let PageResult { document, index, score, text } = page;
            let image_url = document.has_images.then(|| links.page_image(document.id, *index));
            PageBody {
                path: document.path.as_str(),
                page_index: *index,
                score: *score,
                content: text.as_deref(),
                image_url,
            }
        });
        Self {
            results: results.collect(),
            document_results: documents(&found.documents, with_metadata, links),
        }
    }
}

#[derive(Serialize)]
pub(super) struct SnippetsBody<'a> {
    results: Vec<SnippetBody<'a>>,
    document_results: Vec<DocumentBody<'a>>,
}

#[derive(Serialize)]
struct SnippetBody<'a> {
    path: &'a str,
    start_index: u32,
    end_index: u32,
    page_span: [u32; 2],
    content: &'a str,
    score: f64,
}

impl<'a> SnippetsBody<'a> {
    pub(super) fn new(
        found: &'a Results<SnippetResult>,
        with_metadata: bool,
        links: &Links,
    ) -> Self {
        let results = found.results.iter().map(|snippet| {
            let SnippetResult { document, chars, pages, text, score } = snippet;
            SnippetBody {
                path: document.path.as_str(),
                start_index: chars.start,
                end_index: chars.end,
                page_span: [pages.start, pages.end],
                content: text,
                score: *score,
            }
        });
        Self {
            results: results.collect(),
            document_results: documents(&found.documents, with_metadata, links),
        }
    }
}
