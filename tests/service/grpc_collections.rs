//! Collections and documents over gRPC: what each call does, refuses and says.

use anyhow::{Context, Result, ensure};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use reranker::app::RequestLimits;
use reranker::server::Edge;
use reranker_proto::v1::add_document_request::Content;
use reranker_proto::v1::collections_client::CollectionsClient;
use reranker_proto::v1::metadata_value::Value;
use reranker_proto::v1::update_document_request::Change;
use reranker_proto::v1::{
    AddCollectionRequest, AddDocumentRequest, DeleteCollectionRequest, DeleteDocumentsRequest,
    DocumentStatus, GetDocumentRequest, GetPageRequest, GetStatusRequest, GetStatusResponse,
    ListCollectionsRequest, ListDocumentsRequest, Metadata, MetadataValue, Pages, TextList,
    TopDocumentsRequest, UpdateDocumentRequest,
};
use reranker_tests::certificates::Files;
use reranker_tests::library::Library;
use reranker_tests::server::Settings;
use serde_json::json;
use std::collections::HashMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

struct Server {
    library: Library,
    client: CollectionsClient<Channel>,
}

impl Server {
    async fn new(settings: Settings) -> Result<Self> {
        let library = Library::start(settings).await?;
        let client =
            CollectionsClient::new(library.channel().await?).max_encoding_message_size(usize::MAX);
        Ok(Self { library, client })
    }

    async fn add(&mut self, name: &str) -> Result<(), Status> {
        let request = AddCollectionRequest { collection_name: name.into(), num_shards: None };
        self.client.add_collection(request).await.map(drop)
    }
}

fn document(path: &str, content: Content) -> AddDocumentRequest {
    AddDocumentRequest {
        collection_name: "c".into(),
        path: path.into(),
        content: Some(content),
        ..AddDocumentRequest::default()
    }
}

fn text(text: &str) -> Content {
    Content::Text(text.into())
}

fn attribute(value: Value) -> MetadataValue {
    MetadataValue { value: Some(value) }
}

fn refusal<T>(answer: Result<Response<T>, Status>) -> Result<(Code, String)> {
    let status = answer.err().context("it should be refused")?;
    Ok((status.code(), status.message().to_owned()))
}

/// A client over gRPC could not do what one over HTTP can, or be told something else.
#[tokio::test]
async fn documents_are_added_found_changed_and_deleted() -> Result<()> {
    let mut server = Server::new(Settings::default()).await?;
    server.add("c").await?;
    server.add("é").await?;
    ensure!(refusal(server.add("c").await.map(Response::new))?.0 == Code::AlreadyExists);
    let names = server.client.list_collections(ListCollectionsRequest {}).await?.into_inner();
    ensure!(names.collection_names == ["c", "é"]);

    let metadata: HashMap<_, _> = [
        ("kind".to_owned(), attribute(Value::Text("note".into()))),
        ("list:tags".to_owned(), attribute(Value::List(TextList { texts: vec!["a".into()] }))),
    ]
    .into();
    let plain = AddDocumentRequest { metadata: metadata.clone(), ..document("a", text("otter")) };
    ensure!(!server.client.add_document(plain.clone()).await?.into_inner().replaced);
    let (code, message) = refusal(server.client.add_document(plain.clone()).await)?;
    ensure!(code == Code::AlreadyExists && message.contains("`a`"), "{message}");
    let over = AddDocumentRequest { overwrite: true, ..plain };
    ensure!(server.client.add_document(over).await?.into_inner().replaced);
    let pages = Pages { texts: vec!["one".into(), "two".into()] };
    server.client.add_document(document("b", Content::Pages(pages.clone()))).await?;
    server.client.add_document(document("c", Content::UnorderedPages(pages))).await?;
    server.client.add_document(document("d.csv", Content::Auto(b"x,y\n1,2\n".into()))).await?;
    server.client.add_document(document("e.bin", Content::Auto(vec![0, 255, 1]))).await?;
    server.library.settled().await?;

    let status = server.client.get_status(GetStatusRequest::default()).await?.into_inner();
    let expected = GetStatusResponse {
        documents: 5,
        indexed_documents: 4,
        failed_documents: 1,
        indexed_bytes: status.indexed_bytes,
        ..GetStatusResponse::default()
    };
    ensure!(status == expected && status.indexed_bytes > 20, "{status:?}");
    let at = |path: &str, include_content| GetDocumentRequest {
        collection_name: "c".into(),
        path: path.into(),
        include_content,
    };
    let found = server.client.get_document(at("a", true)).await?.into_inner();
    ensure!(found.content.as_deref() == Some("otter"));
    let found = found.document.context("a document")?;
    ensure!(found.metadata == metadata && found.index_status() == DocumentStatus::Indexed);
    ensure!((found.path.as_str(), found.size, found.num_pages) == ("a", 5, None));
    ensure!(found.created_at.is_some_and(|at| at.seconds > 1_700_000_000));
    let original = server.library.http() + &found.file_url;
    ensure!(reqwest::get(original).await?.text().await? == "otter");
    ensure!(server.client.get_document(at("b", false)).await?.into_inner().content.is_none());

    let list = ListDocumentsRequest {
        collection_name: "c".into(),
        limit: Some(2),
        path_gt: Some("b".into()),
        ..ListDocumentsRequest::default()
    };
    let listed = server.client.list_documents(list).await?.into_inner().documents;
    let paths: Vec<_> = listed.iter().map(|it| (it.path.as_str(), it.num_pages)).collect();
    ensure!(paths == [("c", Some(2)), ("d.csv", Some(1))], "{paths:?}");
    let page = |index| GetPageRequest {
        collection_name: "c".into(),
        path: "b".into(),
        page_index: index,
        include_content: true,
    };
    let found = server.client.get_page(page(1)).await?.into_inner();
    ensure!(found.content.as_deref() == Some("two") && found.image_url.is_none());
    ensure!(refusal(server.client.get_page(page(2)).await)?.0 == Code::NotFound);
    ensure!(refusal(server.client.get_page(page(-1)).await)?.0 == Code::InvalidArgument);

    let change = |path: &str, change| UpdateDocumentRequest {
        collection_name: "c".into(),
        path: path.into(),
        change,
    };
    let again = |status: DocumentStatus| Some(Change::IndexStatus(status.into()));
    server.client.update_document(change("e.bin", again(DocumentStatus::NotParsed))).await?;
    let wrong = server.client.update_document(change("a", again(DocumentStatus::NotIndexed))).await;
    ensure!(refusal(wrong)?.0 == Code::FailedPrecondition);
    let wrong = server.client.update_document(change("a", again(DocumentStatus::Indexed))).await;
    ensure!(refusal(wrong)?.0 == Code::InvalidArgument);
    ensure!(refusal(server.client.update_document(change("z", None)).await)?.0 == Code::NotFound);
    let none = Some(Change::Metadata(Metadata::default()));
    server.client.update_document(change("a", none)).await?;
    let found = server.client.get_document(at("a", false)).await?.into_inner();
    ensure!(found.document.context("a document")?.metadata.is_empty());

    let delete = |paths: &[&str]| DeleteDocumentsRequest {
        collection_name: "c".into(),
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    };
    let deleted = server.client.delete_documents(delete(&["z", "b", "a", "b"])).await?;
    ensure!(deleted.into_inner().deleted_paths == ["b", "a"]);
    ensure!(refusal(server.client.delete_documents(delete(&["a"])).await)?.0 == Code::NotFound);
    let wrong = server.client.delete_documents(delete(&[])).await;
    ensure!(refusal(wrong)?.0 == Code::InvalidArgument);
    let collection = DeleteCollectionRequest { collection_name: "c".into() };
    server.client.delete_collection(collection.clone()).await?;
    ensure!(refusal(server.client.delete_collection(collection).await)?.0 == Code::NotFound);
    Ok(())
}

/// A client is told which of its fields is wrong, or it guesses.
#[tokio::test]
async fn wrong_fields_are_named() -> Result<()> {
    let mut server = Server::new(Settings::default()).await?;
    server.add("c").await?;
    let fields = |status: &Status| -> Vec<String> {
        let details = status.get_details_bad_request().into_iter();
        details.flat_map(|it| it.field_violations).map(|violation| violation.field).collect()
    };
    let mut query = server.library.grpc().await?;
    let mut filtered = async |filter: prost_types::Value| {
        let request = TopDocumentsRequest {
            collection_name: "c".into(),
            k: 1,
            filter: Some(Struct { fields: [("$and".to_owned(), filter)].into() }),
            ..TopDocumentsRequest::default()
        };
        query.top_documents(request).await.map(drop)
    };
    let value = |kind| prost_types::Value { kind: Some(kind) };
    let list = |value: prost_types::Value| prost_types::Value {
        kind: Some(Kind::ListValue(ListValue { values: vec![value] })),
    };
    let number = list(value(Kind::NumberValue(1.0)));
    let refused = filtered(number).await.expect_err("a number is no filter");
    ensure!(fields(&refused) == ["filter.$and.0"], "{refused:?}");
    let object = |name: &str, inner| {
        value(Kind::StructValue(Struct { fields: [(name.to_owned(), inner)].into() }))
    };
    let condition = || object("a", object("$in", list(value(Kind::StringValue("x".into())))));
    // A filter in another: `depth` of them with the outermost and the condition.
    let nested = |depth| (2..depth).fold(list(condition()), |inner, _| list(object("$or", inner)));
    filtered(nested(18)).await?;
    for depth in [22, 1_000] {
        let refused = filtered(nested(depth)).await.expect_err("is nested too deep");
        ensure!(refused.code() == Code::InvalidArgument, "{refused:?}");
    }

    let empty = AddDocumentRequest { content: None, ..document("a", text("")) };
    let refused = server.client.add_document(empty).await.expect_err("has no content");
    ensure!(fields(&refused) == ["content"], "{refused:?}");
    let nothing = [("x".to_owned(), MetadataValue { value: None })].into();
    let nothing = AddDocumentRequest { metadata: nothing, ..document("a", text("")) };
    let refused = server.client.add_document(nothing).await.expect_err("has no value");
    ensure!(fields(&refused) == ["metadata.x"], "{refused:?}");
    let list = attribute(Value::List(TextList::default()));
    let wrong =
        AddDocumentRequest { metadata: [("x".into(), list)].into(), ..document("a", text("")) };
    for (request, part) in [
        (wrong, "name it `list:x`"),
        (document("", text("")), "`path` is 0 bytes long"),
        (document("a", Content::Pages(Pages::default())), "`content.pages` is empty"),
    ] {
        let (code, message) = refusal(server.client.add_document(request).await)?;
        ensure!(code == Code::InvalidArgument && message.contains(part), "{message}");
    }
    Ok(())
}

fn with<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {key}").parse().expect("is ASCII");
    request.metadata_mut().insert("authorization", value);
    request
}

/// A key that may only read could change or delete what others have written.
#[tokio::test]
async fn keys_that_may_only_read_write_nothing() -> Result<()> {
    let keys = Files::new(&[("keys", "writer\nreader read_only\n")])?;
    let edge = Edge { keys_file: Some(keys.path("keys")), ..Edge::default() };
    let server = Server::new(Settings { edge, ..Settings::default() }).await?;
    let mut client = server.client.clone();
    let named = || AddCollectionRequest { collection_name: "c".into(), num_shards: None };
    ensure!(refusal(client.add_collection(named()).await)?.0 == Code::Unauthenticated);
    client.add_collection(with("writer", named())).await?;
    let answers = [
        client.add_collection(with("reader", named())).await.map(drop),
        client
            .delete_collection(with("reader", DeleteCollectionRequest::default()))
            .await
            .map(drop),
        client.add_document(with("reader", AddDocumentRequest::default())).await.map(drop),
        client.update_document(with("reader", UpdateDocumentRequest::default())).await.map(drop),
        client.delete_documents(with("reader", DeleteDocumentsRequest::default())).await.map(drop),
    ];
    for answer in answers {
        let status = answer.err().context("it should be refused")?;
        ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    }
    let list = client.list_collections(with("reader", ListCollectionsRequest {})).await?;
    ensure!(list.into_inner().collection_names == ["c"]);
    client.get_status(with("reader", GetStatusRequest::default())).await?;
    Ok(())
}

/// A document that HTTP takes would not fit over gRPC, or any call could fill the memory.
#[tokio::test]
async fn only_documents_may_be_large() -> Result<()> {
    let limits = RequestLimits { body_bytes: 1_000, document_bytes: 5_000, ..Default::default() };
    let mut server = Server::new(Settings { limits, ..Settings::default() }).await?;
    server.add("c").await?;
    server.client.add_document(document("a", text(&"x".repeat(4_900)))).await?;
    let (code, message) =
        refusal(server.client.add_document(document("b", text(&"x".repeat(5_000)))).await)?;
    ensure!(code == Code::OutOfRange && message.contains("5000 bytes"), "{message}");
    let (code, message) = refusal(server.add(&"x".repeat(1_000)).await.map(Response::new))?;
    ensure!(code == Code::OutOfRange && message.contains("1000 bytes"), "{message}");
    let body = json!({"collection_name": "c", "path": "a", "include_content": true});
    let answer = server.library.post("/v1/documents/get-document-info", &body).await?;
    ensure!(answer.body["document"]["size"] == 4_900);
    Ok(())
}

/// A long document would be refused for its length alone, or a broken one for what it is not.
#[tokio::test]
async fn long_messages_are_read_as_short_ones() -> Result<()> {
    let mut server = Server::new(Settings::default()).await?;
    server.add("c").await?;
    let client = reqwest::Client::builder().http2_prior_knowledge().build()?;
    let url =
        format!("http://{}/reranker.v1.Collections/AddDocument", server.library.addresses.grpc);
    for (path, length) in [("short", 1_000), ("long", 300_000)] {
        server.client.add_document(document(path, text(&"x".repeat(length)))).await?;
        ensure!(server.library.document(path).await?["size"] == length);

        // The field `text`, which is no UTF-8.
        let mut message = vec![0x1a];
        prost::encode_length_delimiter(length, &mut message)?;
        message.resize(message.len() + length, 0xff);
        let framed = [&[0], &u32::try_from(message.len())?.to_be_bytes()[..], &message].concat();
        let request = client.post(&url).header("content-type", "application/grpc");
        let answer = request.header("te", "trailers").body(framed).send().await?;
        ensure!(answer.headers()["grpc-status"] == "3", "{path}: {answer:?}");
    }
    Ok(())
}
