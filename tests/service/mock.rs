//! `serve --mock`: a server for the tests of others.

use anyhow::{Context, Result};
use reqwest::{Client, Method};
use reranker_proto::v1::collections_client::CollectionsClient;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{self, RerankRequest};
use reranker_tests::process::{Process, run, stderr};
use serde_json::{Value, json};

const QUERY: &str = "What is the red planet?";
const DOCUMENTS: [&str; 3] = ["Venus is white", "The red planet is Mars", "What is it?"];

async fn ask(server: &Process, path: &str, body: &Value) -> Result<(u16, Value)> {
    let request = Client::new().post(format!("{}{path}", server.http)).body(body.to_string());
    let response = request.header("authorization", "Bearer any key").send().await?;
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    assert!(response.headers().contains_key("x-request-id"), "{path}");
    Ok((status, serde_json::from_slice(&response.bytes().await?).context(path.to_owned())?))
}

async fn ok(server: &Process, path: &str, body: &Value) -> Result<Value> {
    let (status, body) = ask(server, path, body).await?;
    assert_eq!(status, 200, "{path}: {body}");
    Ok(body)
}

fn order(list: &Value) -> Vec<u64> {
    list.as_array().expect("a list").iter().filter_map(|item| item["index"].as_u64()).collect()
}

/// Tests written against the mock would pass or fail by chance, or break with the real server.
#[tokio::test]
async fn rerank_routes_score_what_they_are_given() -> Result<()> {
    let server = Process::serve(&["--mock"], &[])?.ready()?;
    let body = json!({"model": "any", "query": QUERY, "documents": DOCUMENTS, "top_n": 2});
    let hosted = ok(&server, "/v1/models/rerank", &body).await?;
    let expected = json!([
        {"index": 1, "relevance_score": 5.0 / 7.0},
        {"index": 2, "relevance_score": 3.0 / 7.0},
    ]);
    assert_eq!(hosted["results"], expected);
    assert_eq!(hosted["actual_latency_mode"], "fast");
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let answer = ok(&server, path, &body).await?;
        assert_eq!(order(&answer["results"]), [1, 2], "{path}");
        assert_eq!(answer["model"], "any");
    }
    let texts = json!({"query": QUERY, "texts": DOCUMENTS});
    assert_eq!(order(&ok(&server, "/rerank", &texts).await?), [1, 2, 0]);
    let pairs = json!({"text_1": QUERY, "text_2": DOCUMENTS});
    assert_eq!(order(&ok(&server, "/score", &pairs).await?["data"]), [0, 1, 2]);

    let mut client = RerankerClient::connect(server.grpc.clone()).await?;
    let documents = DOCUMENTS.map(str::to_owned).to_vec();
    let request = RerankRequest { query: QUERY.into(), documents, ..RerankRequest::default() };
    let results = client.rerank(request).await?.into_inner().results;
    assert_eq!(results.iter().map(|result| result.index).collect::<Vec<_>>(), [1, 2, 0]);
    Ok(())
}

/// A stub that refuses what its user has not set up is no stub.
#[tokio::test]
async fn nothing_is_looked_up_and_no_limit_holds() -> Result<()> {
    let server = Process::serve(&["--mock"], &[])?.ready()?;
    for top_n in [json!(0), json!(-1), json!(9), json!(null)] {
        let body = json!({"query": QUERY, "documents": DOCUMENTS, "top_n": top_n});
        let answer = ok(&server, "/models/rerank", &body).await?;
        assert_eq!(answer["results"].as_array().map(Vec::len), Some(3), "{top_n}");
    }
    let large = json!({"query": "q", "documents": vec!["d".repeat(1_000_000); 6]});
    assert_eq!(ok(&server, "/v1/models/rerank", &large).await?["total_bytes"], 6_000_906);
    let wrong = json!({"query": 1});
    assert_eq!(ask(&server, "/v1/models/rerank", &wrong).await?.0, 422);
    for (path, status) in [
        ("/collections/add-collection", 201),
        ("/collections/delete-collection", 200),
        ("/documents/add-document", 201),
        ("/documents/update-document", 200),
    ] {
        for prefix in ["", "/v1"] {
            let body = json!({"collection_name": "any", "path": "any", "num_shards": -5});
            let (got, answer) = ask(&server, &format!("{prefix}{path}"), &body).await?;
            assert_eq!((got, answer), (status, json!({"message": "Success!"})), "{path}");
        }
    }
    for path in ["/v1/nothing", "/admin/get-organization", "/v2/models/rerank"] {
        assert_eq!(ask(&server, path, &json!({})).await?.0, 404, "{path}");
    }
    for (body, status) in [("", 200), ("{}", 200), ("[]", 422), ("{\"a\":", 422), ("\u{0}", 422)] {
        let url = format!("{}/collections/get-collection-list", server.http);
        let response = Client::new().post(url).body(body).send().await?;
        assert_eq!(response.status().as_u16(), status, "{body}");
    }
    Ok(())
}

/// The clients' pages would never end, and what they get back would not be what they asked for.
#[tokio::test]
async fn names_come_back_and_lists_end() -> Result<()> {
    let server = Process::serve(&["--mock"], &[])?.ready()?;
    let list = "/v1/documents/get-document-info-list";
    let names = json!({"collection_name": "c", "path": "p", "include_content": true});
    let first = ok(&server, list, &names).await?;
    assert_eq!(first["documents"][0]["collection_name"], "c");
    let last = json!({"collection_name": "c", "path_gt": "document.txt"});
    assert_eq!(ok(&server, list, &last).await?, json!({"documents": []}));
    let query = format!("{list}?path_gt=a");
    assert_eq!(ok(&server, &query, &names).await?, json!({"documents": []}));

    let document = &ok(&server, "/documents/get-document-info", &names).await?["document"];
    assert_eq!((&document["collection_name"], &document["path"]), (&json!("c"), &json!("p")));
    let url = document["file_url"].as_str().context("a URL")?;
    assert!(url.starts_with(&format!("{}/v1/", server.http)), "{url}");
    let text = Client::new().get(url).send().await?.text().await?;
    assert_eq!(document["content"], text);
    let page = &ok(&server, "/documents/get-page-info", &names).await?["page"];
    let url = page["image_url"].as_str().context("a URL")?;
    let image = Client::new().request(Method::GET, url).send().await?;
    assert_eq!(image.headers()["content-type"], "image/jpeg");
    assert!(image.bytes().await?.starts_with(b"\xff\xd8\xff"));

    let paths = json!({"collection_name": "c", "path": ["a", "b"]});
    let deleted = ok(&server, "/documents/delete-document", &paths).await?;
    assert_eq!(deleted, json!({"deleted_paths": ["a", "b"]}));
    Ok(())
}

/// A program that keeps its documents over gRPC could not be tested, or would meet another world there.
#[tokio::test]
async fn grpc_has_the_same_collections() -> Result<()> {
    let server = Process::serve(&["--mock"], &[])?.ready()?;
    let mut client = CollectionsClient::connect(server.grpc.clone()).await?;
    let (collection_name, path) = ("c".to_owned(), "p".to_owned());
    client.add_collection(v1::AddCollectionRequest::default()).await?;
    client.add_document(v1::AddDocumentRequest::default()).await?;
    client.update_document(v1::UpdateDocumentRequest::default()).await?;
    client.delete_collection(v1::DeleteCollectionRequest::default()).await?;
    let paths = vec!["a".to_owned(), "b".to_owned()];
    let delete = v1::DeleteDocumentsRequest { paths: paths.clone(), ..Default::default() };
    assert_eq!(client.delete_documents(delete).await?.into_inner().deleted_paths, paths);
    let names = client.list_collections(v1::ListCollectionsRequest {}).await?.into_inner();
    let body = ok(&server, "/collections/get-collection-list", &json!({})).await?;
    assert_eq!(json!(names.collection_names), body["collection_names"]);
    let status = client.get_status(v1::GetStatusRequest::default()).await?.into_inner();
    let body = ok(&server, "/status/get-status", &json!({})).await?;
    assert_eq!(json!(status.indexed_documents), body["num_indexed_documents"]);
    assert_eq!(json!(status.indexed_bytes), body["num_indexed_bytes"]);

    let names = json!({"collection_name": "c", "path": "p", "include_content": true});
    let body = &ok(&server, "/documents/get-document-info", &names).await?["document"];
    let get = v1::GetDocumentRequest {
        collection_name: collection_name.clone(),
        path: path.clone(),
        include_content: true,
    };
    let answer = client.get_document(get).await?.into_inner();
    let document = answer.document.context("a document")?;
    assert_eq!(json!(answer.content), body["content"]);
    for (grpc, name) in [
        (json!(document.id), "id"),
        (json!(document.collection_name), "collection_name"),
        (json!(document.path), "path"),
        (json!(document.size), "size"),
        (json!(format!("{}{}", server.http, document.file_url)), "file_url"),
    ] {
        assert_eq!(grpc, body[name], "{name}");
    }
    assert_eq!(document.index_status(), v1::DocumentStatus::Indexed);
    let list = |path_gt: Option<&str>| v1::ListDocumentsRequest {
        collection_name: collection_name.clone(),
        path_gt: path_gt.map(str::to_owned),
        ..Default::default()
    };
    assert_eq!(client.list_documents(list(None)).await?.into_inner().documents.len(), 1);
    assert!(client.list_documents(list(Some("a"))).await?.into_inner().documents.is_empty());
    let page = v1::GetPageRequest { collection_name, path, page_index: 3, include_content: false };
    let page = client.get_page(page).await?.into_inner();
    assert_eq!((page.page_index, page.content), (3, None));

    let mut queries = RerankerClient::connect(server.grpc.clone()).await?;
    let body = ok(&server, "/queries/top-snippets", &json!({})).await?;
    let found = queries.top_snippets(v1::TopSnippetsRequest::default()).await?.into_inner();
    assert_eq!(json!(found.results[0].content), body["results"][0]["content"]);
    assert_eq!(json!(found.results[0].end_index), body["results"][0]["end_index"]);
    assert_eq!(found.document_results[0].path, found.results[0].path);
    let found = queries.top_pages(v1::TopPagesRequest::default()).await?.into_inner();
    assert_eq!((found.results.len(), found.document_results.len()), (1, 1));
    let body = ok(&server, "/queries/top-documents", &json!({})).await?;
    let found = queries.top_documents(v1::TopDocumentsRequest::default()).await?.into_inner();
    assert_eq!(json!(found.results[0].path), body["results"][0]["path"]);
    assert_eq!(json!(found.results[0].score), body["results"][0]["score"]);
    Ok(())
}

/// A program that checks its vectors' lengths, or reads base64, cannot be tested otherwise.
#[tokio::test]
async fn embeddings_are_unit_vectors_of_the_size_asked_for() -> Result<()> {
    let server = Process::serve(&["--mock"], &[])?.ready()?;
    let mut body = json!({"model": "m", "input_type": "query", "input": ["a", "b", "a"]});
    body["dimensions"] = json!(40);
    let floats = ok(&server, "/models/embed", &body).await?;
    let vector = |index: usize| -> Vec<f64> {
        let values = floats["results"][index]["embedding"].as_array().expect("a list");
        values.iter().map(|value| value.as_f64().expect("a number")).collect()
    };
    assert_eq!((vector(0).len(), vector(0)), (40, vector(2)));
    assert_ne!(vector(0), vector(1));
    let length: f64 = vector(1).iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    body["encoding_format"] = json!("base64");
    body["dimensions"] = json!(0);
    let text = ok(&server, "/models/embed", &body).await?;
    let text = text["results"][0]["embedding"].as_str().context("base64")?.to_owned();
    assert_eq!(text.trim_end_matches('=').len(), (2560_usize * 4 * 4).div_ceil(3));
    Ok(())
}

/// A production server that was given both would answer users with canned scores, or everybody.
#[test]
fn a_model_beside_the_mock_is_refused() {
    for flags in [["--model", "demo"], ["--alias", "a=b"], ["--api-keys-file", "keys"]] {
        let output = run(["serve", "--mock"].into_iter().chain(flags));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("--mock") && text.contains(flags[0]), "{text}");
    }
}
