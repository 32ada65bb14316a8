//! The queries of `reranker.v1.Reranker`.

use super::call::Call;
use super::filter::filter;
use super::{metadata, mock};
use crate::api::Access;
use crate::api::convert::queries::{QueryFields, Sought};
use crate::api::links::Links;
use crate::app::App;
use crate::error::Error;
use crate::queries::{self, DocumentResult, PageResult, SnippetResult};
use reranker_proto::v1;
use tonic::Request;

pub(super) async fn top_snippets(
    app: &App,
    request: Request<v1::TopSnippetsRequest>,
) -> Result<v1::TopSnippetsResponse, Error> {
    if app.is_mock() {
        return Ok(mock::top_snippets());
    }
    let (call, request) = Call::enter(app, request, Access::Read)?;
    let fields = QueryFields {
        collection_name: request.collection_name,
        query: Some(request.query),
        k: request.k,
        filter: filter(request.filter),
        reranker: named(request.reranker),
        deep: false,
    };
    let query = fields.into_request(Sought::Snippets, &call.admission)?;
    let granularity = queries::granularity(request.precise_responses);
    let found = app.top_snippets(query, granularity).await?;
    Ok(v1::TopSnippetsResponse {
        results: found.results.into_iter().map(snippet).collect(),
        document_results: documents(
            &found.documents,
            request.include_document_metadata,
            &call.links,
        ),
    })
}

pub(super) async fn top_pages(
    app: &App,
    request: Request<v1::TopPagesRequest>,
) -> Result<v1::TopPagesResponse, Error> {
    if app.is_mock() {
        return Ok(mock::top_pages(request.get_ref().include_content));
    }
    let (call, request) = Call::enter(app, request, Access::Read)?;
    let fields = QueryFields {
        collection_name: request.collection_name,
        query: Some(request.query),
        k: request.k,
        filter: filter(request.filter),
        reranker: None,
        deep: false,
    };
    let query = fields.into_request(Sought::Pages, &call.admission)?;
    let found = app.top_pages(query, request.include_content).await?;
    Ok(v1::TopPagesResponse {
        results: found.results.into_iter().map(|result| page(result, &call.links)).collect(),
        document_results: documents(&found.documents, request.include_metadata, &call.links),
    })
}

pub(super) async fn top_documents(
    app: &App,
    request: Request<v1::TopDocumentsRequest>,
) -> Result<v1::TopDocumentsResponse, Error> {
    if app.is_mock() {
        return Ok(mock::top_documents());
    }
    let (call, request) = Call::enter(app, request, Access::Read)?;
    let fields = QueryFields {
        collection_name: request.collection_name,
        query: request.query,
        k: request.k,
        filter: filter(request.filter),
        reranker: named(request.reranker),
        deep: request.deep,
    };
    let query = fields.into_request(Sought::Documents, &call.admission)?;
    let found = app.top_documents(query).await?;
    let results = documents(&found, request.include_metadata, &call.links);
    Ok(v1::TopDocumentsResponse { results })
}

fn named(reranker: String) -> Option<String> {
    Some(reranker).filter(|name| !name.is_empty())
}

fn snippet(result: SnippetResult) -> v1::SnippetResult {
    let SnippetResult { document, chars, pages, text, score } = result;
    v1::SnippetResult {
        path: document.path.as_str().to_owned(),
        start_index: chars.start.into(),
        end_index: chars.end.into(),
        start_page: pages.start.into(),
        end_page: pages.end.into(),
        content: text,
        score,
    }
}

fn page(result: PageResult, links: &Links) -> v1::PageResult {
    let PageResult { document, index, score, text } = result;
    v1::PageResult {
        path: document.path.as_str().to_owned(),
        page_index: index.into(),
        score,
        content: text,
        image_url: document.has_images.then(|| links.page_image(document.id, index)),
    }
}

fn documents(
    results: &[DocumentResult],
    with_metadata: bool,
    links: &Links,
) -> Vec<v1::DocumentResult> {
    let results = results.iter().map(|DocumentResult { document, score }| v1::DocumentResult {
        path: document.path.as_str().to_owned(),
        score: *score,
        metadata: if with_metadata { metadata::wire(&document.metadata) } else { [].into() },
        file_url: links.document(document.id),
    });
    results.collect()
}
