//! What a call about collections is refused for: the same over gRPC and HTTP, in the same words.

use anyhow::{Context, Result, ensure};
use prost_types::value::Kind;
use prost_types::{Struct, Value as Wire};
use reranker_proto::v1;
use reranker_proto::v1::add_document_request::Content;
use reranker_proto::v1::collections_client::CollectionsClient;
use reranker_proto::v1::metadata_value::Value as Attribute;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::update_document_request::Change;
use reranker_tests::library::Library;
use reranker_tests::server::{Running, random};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A call as a message.
enum Call {
    AddCollection(v1::AddCollectionRequest),
    DeleteCollection(v1::DeleteCollectionRequest),
    AddDocument(v1::AddDocumentRequest),
    UpdateDocument(v1::UpdateDocumentRequest),
    DeleteDocuments(v1::DeleteDocumentsRequest),
    GetDocument(v1::GetDocumentRequest),
    ListDocuments(v1::ListDocumentsRequest),
    GetPage(v1::GetPageRequest),
    GetStatus(v1::GetStatusRequest),
    TopSnippets(v1::TopSnippetsRequest),
    TopPages(v1::TopPagesRequest),
    TopDocuments(v1::TopDocumentsRequest),
}

struct Clients {
    collections: CollectionsClient<Channel>,
    queries: RerankerClient<Channel>,
}

impl Clients {
    async fn send(&mut self, call: Call) -> Result<(), Status> {
        let Self { collections, queries } = self;
        match call {
            Call::AddCollection(it) => collections.add_collection(it).await.map(drop),
            Call::DeleteCollection(it) => collections.delete_collection(it).await.map(drop),
            Call::AddDocument(it) => collections.add_document(it).await.map(drop),
            Call::UpdateDocument(it) => collections.update_document(it).await.map(drop),
            Call::DeleteDocuments(it) => collections.delete_documents(it).await.map(drop),
            Call::GetDocument(it) => collections.get_document(it).await.map(drop),
            Call::ListDocuments(it) => collections.list_documents(it).await.map(drop),
            Call::GetPage(it) => collections.get_page(it).await.map(drop),
            Call::GetStatus(it) => collections.get_status(it).await.map(drop),
            Call::TopSnippets(it) => queries.top_snippets(it).await.map(drop),
            Call::TopPages(it) => queries.top_pages(it).await.map(drop),
            Call::TopDocuments(it) => queries.top_documents(it).await.map(drop),
        }
    }

    /// Compares both refusals of one call.
    async fn compare(
        &mut self,
        library: &Library,
        (route, body, code, call): (&str, Value, Code, Call),
    ) -> Result<()> {
        let http = library.post(&format!("/v1{route}"), &body).await?;
        let place = format!("{route}: {} {}", http.status, http.body);
        let grpc = self.send(call).await.err().with_context(|| place.clone())?;
        let status = match code {
            Code::InvalidArgument => [400, 422],
            Code::FailedPrecondition => [400, 400],
            Code::NotFound => [404, 404],
            Code::AlreadyExists => [409, 409],
            other => anyhow::bail!("{other:?} is nothing a request can do about"),
        };
        ensure!(grpc.code() == code && status.contains(&http.status), "{place}: {grpc:?}");
        ensure!(http.body["message"] == grpc.message(), "{place}: {grpc:?}");
        Ok(())
    }
}

fn text(path: &str) -> v1::AddDocumentRequest {
    v1::AddDocumentRequest {
        collection_name: "c".into(),
        path: path.into(),
        content: Some(Content::Text("x".into())),
        ..Default::default()
    }
}

fn text_json(path: &str) -> Value {
    json!({"collection_name": "c", "path": path, "content": {"type": "text", "text": "x"}})
}

fn filter(attribute: &str, kind: Kind) -> Struct {
    Struct { fields: [(attribute.to_owned(), Wire { kind: Some(kind) })].into() }
}

/// The calls that the collection `c` with an indexed document `a` and a failed one `bad` refuses.
#[expect(clippy::too_many_lines, reason = "a table")]
fn calls() -> Vec<(&'static str, Value, Code, Call)> {
    let c = || "c".to_owned();
    let document = |path: &str| json!({"collection_name": "c", "path": path});
    let documents = |fields: Value| {
        let mut body = json!({"collection_name": "c", "query": "x", "k": 1});
        let fields = fields.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("is an object").extend(fields);
        body
    };
    let top = |request: v1::TopDocumentsRequest| {
        let query = Some(request.query.unwrap_or_else(|| "x".into()));
        Call::TopDocuments(v1::TopDocumentsRequest { collection_name: c(), query, ..request })
    };
    let long = || "x".repeat(4097);
    let mut listed = text("z");
    let list = Attribute::List(v1::TextList { texts: vec!["b".into()] });
    listed.metadata.insert("a".into(), v1::MetadataValue { value: Some(list) });
    let mut listed_json = text_json("z");
    listed_json["metadata"] = json!({"a": ["b"]});
    let status = |status: v1::DocumentStatus| Some(Change::IndexStatus(status.into()));
    let update = |path: &str, change| {
        Call::UpdateDocument(v1::UpdateDocumentRequest {
            collection_name: c(),
            path: path.into(),
            change,
        })
    };
    let info = |collection: &str, path: &str| {
        let (collection_name, path) = (collection.to_owned(), path.to_owned());
        Call::GetDocument(v1::GetDocumentRequest { collection_name, path, include_content: false })
    };
    let page = |page_index| {
        Call::GetPage(v1::GetPageRequest {
            collection_name: c(),
            path: "a".into(),
            page_index,
            include_content: false,
        })
    };
    let delete = |paths: Vec<String>| {
        Call::DeleteDocuments(v1::DeleteDocumentsRequest { collection_name: c(), paths })
    };
    let collection = |name: &str, num_shards| {
        Call::AddCollection(v1::AddCollectionRequest { collection_name: name.into(), num_shards })
    };
    let with_index = |index: i64| {
        let mut body = document("a");
        body["page_index"] = json!(index);
        body
    };
    let with_status = |path: &str, status: &str| {
        let mut body = document(path);
        body["index_status"] = json!(status);
        body
    };
    vec![
        (
            "/collections/add-collection",
            json!({"collection_name": ""}),
            Code::InvalidArgument,
            collection("", None),
        ),
        (
            "/collections/add-collection",
            json!({"collection_name": "a\0"}),
            Code::InvalidArgument,
            collection("a\0", None),
        ),
        (
            "/collections/add-collection",
            json!({"collection_name": "n", "num_shards": 2}),
            Code::InvalidArgument,
            collection("n", Some(2)),
        ),
        (
            "/collections/add-collection",
            json!({"collection_name": "c"}),
            Code::AlreadyExists,
            collection("c", None),
        ),
        (
            "/collections/delete-collection",
            json!({"collection_name": "n"}),
            Code::NotFound,
            Call::DeleteCollection(v1::DeleteCollectionRequest { collection_name: "n".into() }),
        ),
        (
            "/documents/add-document",
            text_json("a"),
            Code::AlreadyExists,
            Call::AddDocument(text("a")),
        ),
        (
            "/documents/add-document",
            text_json(""),
            Code::InvalidArgument,
            Call::AddDocument(text("")),
        ),
        (
            "/documents/add-document",
            text_json(&long()),
            Code::InvalidArgument,
            Call::AddDocument(text(&long())),
        ),
        ("/documents/add-document", listed_json, Code::InvalidArgument, Call::AddDocument(listed)),
        (
            "/documents/add-document",
            document("z"),
            Code::InvalidArgument,
            Call::AddDocument(v1::AddDocumentRequest { content: None, ..text("z") }),
        ),
        (
            "/documents/add-document",
            json!({"collection_name": "c", "path": "z", "content": {"type": "text-pages", "pages": []}}),
            Code::InvalidArgument,
            Call::AddDocument(v1::AddDocumentRequest {
                content: Some(Content::Pages(v1::Pages::default())),
                ..text("z")
            }),
        ),
        ("/documents/update-document", document("n"), Code::NotFound, update("n", None)),
        (
            "/documents/update-document",
            with_status("a", "not_parsed"),
            Code::FailedPrecondition,
            update("a", status(v1::DocumentStatus::NotParsed)),
        ),
        (
            "/documents/update-document",
            with_status("bad", "not_indexed"),
            Code::FailedPrecondition,
            update("bad", status(v1::DocumentStatus::NotIndexed)),
        ),
        (
            "/documents/update-document",
            with_status("a", "indexed"),
            Code::InvalidArgument,
            update("a", status(v1::DocumentStatus::Indexed)),
        ),
        (
            "/documents/delete-document",
            json!({"collection_name": "c", "path": []}),
            Code::InvalidArgument,
            delete(Vec::new()),
        ),
        (
            "/documents/delete-document",
            json!({"collection_name": "c", "path": vec!["n"; 65]}),
            Code::InvalidArgument,
            delete(vec!["n".into(); 65]),
        ),
        ("/documents/delete-document", document("n"), Code::NotFound, delete(vec!["n".into()])),
        ("/documents/get-document-info", document("n"), Code::NotFound, info("c", "n")),
        (
            "/documents/get-document-info",
            json!({"collection_name": "n", "path": "a"}),
            Code::NotFound,
            info("n", "a"),
        ),
        (
            "/documents/get-document-info-list",
            json!({"collection_name": "c", "limit": 1025}),
            Code::InvalidArgument,
            Call::ListDocuments(v1::ListDocumentsRequest {
                collection_name: c(),
                limit: Some(1025),
                ..Default::default()
            }),
        ),
        ("/documents/get-page-info", with_index(-1), Code::InvalidArgument, page(-1)),
        ("/documents/get-page-info", with_index(1), Code::NotFound, page(1)),
        (
            "/status/get-status",
            json!({"collection_name": "n"}),
            Code::NotFound,
            Call::GetStatus(v1::GetStatusRequest { collection_name: Some("n".into()) }),
        ),
        (
            "/queries/top-documents",
            documents(json!({"k": 0})),
            Code::InvalidArgument,
            top(v1::TopDocumentsRequest::default()),
        ),
        (
            "/queries/top-documents",
            documents(json!({"query": long()})),
            Code::InvalidArgument,
            top(v1::TopDocumentsRequest { k: 1, query: Some(long()), ..Default::default() }),
        ),
        (
            "/queries/top-documents",
            documents(json!({"reranker": "n"})),
            Code::NotFound,
            top(v1::TopDocumentsRequest { k: 1, reranker: "n".into(), ..Default::default() }),
        ),
        (
            "/queries/top-documents",
            documents(json!({"filter": {"$not": "b"}})),
            Code::InvalidArgument,
            top(v1::TopDocumentsRequest {
                k: 1,
                filter: Some(filter("$not", Kind::StringValue("b".into()))),
                ..Default::default()
            }),
        ),
        (
            "/queries/top-documents",
            documents(json!({"filter": {"a": 1}})),
            Code::InvalidArgument,
            top(v1::TopDocumentsRequest {
                k: 1,
                filter: Some(filter("a", Kind::NumberValue(1.0))),
                ..Default::default()
            }),
        ),
        (
            "/queries/top-pages",
            documents(json!({"k": 1025})),
            Code::InvalidArgument,
            Call::TopPages(v1::TopPagesRequest {
                collection_name: c(),
                query: "x".into(),
                k: 1025,
                ..Default::default()
            }),
        ),
        (
            "/queries/top-snippets",
            documents(json!({"k": 129})),
            Code::InvalidArgument,
            Call::TopSnippets(v1::TopSnippetsRequest {
                collection_name: c(),
                query: "x".into(),
                k: 129,
                ..Default::default()
            }),
        ),
    ]
}

/// A team that moves from one protocol to the other would handle errors that never come.
#[tokio::test]
async fn refusals_are_the_same() -> Result<()> {
    let library = Library::empty().await?;
    library.add_text("a", "x").await?;
    library.add("bad", json!({"type": "auto", "base64_data": "AP8B"})).await?;
    library.settled().await?;
    let collections = CollectionsClient::new(library.channel().await?);
    let mut clients = Clients { collections, queries: library.grpc().await? };
    for call in calls() {
        clients.compare(&library, call).await?;
    }
    Ok(())
}

/// Whoever forgot a flag would look for a mistake in the request.
#[tokio::test]
async fn without_a_folder_every_call_says_so() -> Result<()> {
    let running = Running::start(vec![random("m", 1).await?], &[]).await?;
    let collections = CollectionsClient::new(running.channel().await?);
    let mut clients = Clients { collections, queries: running.grpc().await? };
    let off = "collections are off; start the server with --data-dir to have them";
    for (route, body, _, call) in calls() {
        let http = running.post(&format!("/v1{route}"), &body).await?;
        ensure!((http.status, &http.body["message"]) == (404, &json!(off)), "{route}");
        let grpc = clients.send(call).await.err().context("is refused")?;
        ensure!((grpc.code(), grpc.message()) == (Code::NotFound, off), "{route}");
    }
    for route in ["get-document", "get-page-image"] {
        let path = format!("/documents/{route}?token=x");
        let answer = running.method(reqwest::Method::GET, &path).await?;
        ensure!((answer.status, &answer.body["message"]) == (404, &json!(off)), "{route}");
    }
    Ok(())
}
