//! Collections and their documents over HTTP: every rule, from both sides of its limit.

use anyhow::{Result, ensure};
use reranker_tests::library::Library;
use reranker_tests::server::{Answer, Settings};
use serde_json::{Value, json};

const ADD: &str = "/collections/add-collection";
const ADD_DOCUMENT: &str = "/documents/add-document";
const LIST: &str = "/documents/get-document-info-list";
const INFO: &str = "/documents/get-document-info";
const PAGE: &str = "/documents/get-page-info";
const UPDATE: &str = "/documents/update-document";
const DELETE: &str = "/documents/delete-document";

/// The body with these fields instead; null takes a field away.
fn with(body: &Value, fields: Value) -> Value {
    let mut body = body.clone();
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    body.as_object_mut().expect("a body is an object").extend(fields);
    body
}

/// Asks, and compares the status and a part of the message.
async fn expect(
    library: &Library,
    path: &str,
    body: &Value,
    status: u16,
    part: &str,
) -> Result<Answer> {
    let answer = library.post(&format!("/v1{path}"), body).await?;
    let message = answer.body["message"].as_str().unwrap_or_default();
    let start: String = body.to_string().chars().take(200).collect();
    ensure!(
        answer.status == status && message.contains(part),
        "{path} {start}: {} {}",
        answer.status,
        answer.body
    );
    Ok(answer)
}

/// A name that one tool wrote could not be read, or deleted, by another.
#[tokio::test]
async fn collections_have_names_within_the_limit() -> Result<()> {
    let library = Library::start(Settings::default()).await?;
    let long = "é".repeat(512);
    for name in ["a", "a/../b", "..", "/", " ", "日本", &long] {
        expect(&library, ADD, &json!({"collection_name": name}), 201, "Success!").await?;
        let again = expect(&library, ADD, &json!({"collection_name": name}), 409, "exists").await?;
        // The clients would try it twice more.
        ensure!(again.headers["x-should-retry"] == "false");
    }
    for (name, status, part) in [
        (json!(""), 400, "`collection_name` is 0 bytes long"),
        (json!(format!("{long}a")), 400, "1024"),
        (json!("a\0b"), 400, "NUL"),
        (json!(null), 422, "body.collection_name: Input should be a valid string"),
        (json!(["a"]), 422, "valid string"),
    ] {
        expect(&library, ADD, &json!({"collection_name": name}), status, part).await?;
    }
    expect(&library, ADD, &json!({}), 422, "body.collection_name: Field required").await?;
    for (shards, status, part) in [
        (json!(1), 201, ""),
        (json!(64.0), 201, ""),
        (json!(null), 201, ""),
        (json!(0), 400, "1, 8, 16, 32 or 64"),
        (json!(-1), 400, "`num_shards` is -1"),
        (json!(1e300), 400, "1, 8, 16, 32 or 64"),
        (json!(1.5), 422, "fractional part"),
        (json!("8"), 422, "valid integer"),
        (json!(true), 422, "valid integer"),
    ] {
        let body = json!({"collection_name": format!("shards {shards}"), "num_shards": shards});
        expect(&library, ADD, &body, status, part).await?;
    }
    let list = "/collections/get-collection-list";
    for body in ["", "{}", r#"{"more":1}"#] {
        let answer = library.post_bytes(list, body).await?;
        let names = answer.body["collection_names"].as_array().map(Vec::len);
        ensure!((answer.status, names) == (200, Some(10)), "{body}: {}", answer.body);
    }
    for body in ["[]", "{", "null"] {
        ensure!(library.post_bytes(list, body).await?.status == 422, "{body}");
    }
    let delete = "/collections/delete-collection";
    expect(&library, delete, &json!({"collection_name": "none"}), 404, "`none` not found").await?;
    expect(&library, delete, &json!({"collection_name": ""}), 400, "0 bytes").await?;
    expect(&library, delete, &json!({"collection_name": "a/../b"}), 200, "Success!").await?;
    expect(&library, delete, &json!({"collection_name": "a/../b"}), 404, "not found").await?;
    Ok(())
}

/// A document would be kept under another path than its own, or be lost under it.
#[tokio::test]
async fn paths_are_names_and_no_files() -> Result<()> {
    let library = Library::empty().await?;
    let long = "é".repeat(2048);
    let paths = ["../../etc/passwd", "..", "/", "//", "a\\b", "a b", "%2e%2e", "日本", &long];
    for path in paths {
        library.add_text(path, path).await?;
        let document = library.document(path).await?;
        ensure!((&document["path"], &document["content"]) == (&json!(path), &json!(path)));
    }
    let base = json!({"collection_name": "c", "content": {"type": "text", "text": ""}});
    let located = json!({"collection_name": "c", "page_index": 0});
    for (path, status, part) in [
        (json!(""), 400, "`path` is 0 bytes long"),
        (json!(format!("{long}a")), 400, "4096"),
        (json!("a\0"), 400, "NUL"),
        (json!(null), 422, "body.path"),
        (json!(1), 422, "body.path: Input should be a valid string"),
    ] {
        let path = json!({"path": path});
        expect(&library, ADD_DOCUMENT, &with(&base, path.clone()), status, part).await?;
        for route in [INFO, PAGE, UPDATE] {
            expect(&library, route, &with(&located, path.clone()), status, part).await?;
        }
    }
    let listed = library.ask(LIST, &json!({"collection_name": "c"})).await?;
    let mut sorted = paths;
    sorted.sort_unstable();
    let of = |listed: &Value| -> Vec<String> {
        let documents = listed["documents"].as_array().cloned().unwrap_or_default();
        documents.iter().filter_map(|it| Some(it["path"].as_str()?.to_owned())).collect()
    };
    ensure!(of(&listed) == sorted);
    let all = json!({"collection_name": "c", "path": paths});
    ensure!(library.ask(DELETE, &all).await?["deleted_paths"] == json!(paths));
    Ok(())
}

/// Metadata that is taken here is too long for the next server, or was refused for nothing.
#[tokio::test]
async fn metadata_has_its_names_kinds_and_size() -> Result<()> {
    let library = Library::empty().await?;
    let base = json!({
        "collection_name": "c", "path": "a", "overwrite": true,
        "content": {"type": "text", "text": ""},
    });
    // `{"a":""}` is 8 bytes of JSON.
    let most = "x".repeat(65_535 - 8);
    let quotes = "\"".repeat((65_535 - 8) / 2);
    for (metadata, status, part) in [
        (json!({}), 200, ""),
        (json!(null), 200, ""),
        (json!({"A-z_0": "é", "list:t": ["a", "b"], "list:one": "a", "list:none": []}), 200, ""),
        (json!({"a": most}), 200, ""),
        (json!({"a": format!("{most}x")}), 400, "metadata is 65536 bytes of JSON"),
        (json!({"a": quotes}), 200, ""),
        (json!({"a": format!("{quotes}\"")}), 400, "65536 bytes"),
        (json!({"a": ["b"]}), 400, "name it `list:a`"),
        (json!({"a b": "c"}), 400, "`a b`"),
        (json!({"": "c"}), 400, "letters, digits"),
        (json!({"list:": []}), 400, "letters, digits"),
        (json!({"é": "c"}), 400, "letters, digits"),
        (json!({"a": 1, "list:b": ["c", null]}), 422, "body.metadata.list:b.1"),
        (json!({"a": {"b": "c"}}), 422, "body.metadata.a: Input should be a valid string"),
        (json!([]), 422, "body.metadata: Input should be a valid dictionary"),
    ] {
        let body = with(&base, json!({"metadata": metadata}));
        let status = if status == 200 && metadata == json!({}) { 201 } else { status };
        expect(&library, ADD_DOCUMENT, &body, status, part).await?;
        library.settled().await?;
        let update = json!({"collection_name": "c", "path": "a", "metadata": metadata});
        let status = if status == 201 { 200 } else { status };
        expect(&library, UPDATE, &update, status, part).await?;
        if status == 200 {
            library.settled().await?;
            let kept = library.document("a").await?["metadata"].take();
            ensure!(kept == if metadata.is_null() { json!({}) } else { metadata });
        }
    }
    Ok(())
}

/// Content of the wrong kind would end as a failed document that its owner never hears of.
#[tokio::test]
async fn content_is_checked_when_it_comes() -> Result<()> {
    let library = Library::empty().await?;
    let base = json!({"collection_name": "c", "overwrite": true});
    let tags = "'text', 'text-pages', 'text-pages-unordered', 'auto'";
    for (path, content, status, part) in [
        ("1", json!({"type": "text", "text": ""}), 201, ""),
        ("2", json!({"type": "text", "text": "a\u{0}b \u{1F9A6}"}), 201, ""),
        ("3", json!({"type": "text-pages", "pages": ["", "a"], "text": 5}), 201, ""),
        ("4", json!({"type": "text-pages-unordered", "pages": ["a"]}), 201, ""),
        ("5.txt", json!({"type": "auto", "base64_data": "YQ=="}), 201, ""),
        ("6.txt", json!({"type": "auto", "base64_data": "Y\r\nQ \t"}), 201, ""),
        ("7.txt", json!({"type": "auto", "base64_data": ""}), 201, ""),
        ("8", json!({"type": "auto", "base64_data": "_-8="}), 400, "not base64"),
        ("8", json!({"type": "auto", "base64_data": "YR=="}), 400, "not base64"),
        ("8", json!({"type": "auto", "base64_data": "Y"}), 400, "not base64"),
        ("8", json!({"type": "auto"}), 422, "body.content.auto.base64_data: Field required"),
        ("8", json!({"type": "text-pages", "pages": []}), 400, "`content.pages` is empty"),
        ("8", json!({"type": "text-pages", "pages": ["a", 1]}), 422, "content.text-pages.pages.1"),
        ("8", json!({"type": "text-pages", "pages": "a"}), 422, "valid list"),
        ("8", json!({"type": "text"}), 422, "body.content.text.text: Field required"),
        ("8", json!({"type": "text", "text": null}), 422, "body.content.text.text"),
        ("8", json!({"type": "none"}), 422, tags),
        ("8", json!({"type": 1}), 422, tags),
        ("8", json!({"text": "a"}), 422, "discriminator 'type'"),
        ("8", json!("text"), 422, "body.content: Input should be a valid dictionary"),
        ("8", json!(null), 422, "body.content: Input should be a valid dictionary"),
    ] {
        let body = with(&base, json!({"path": path, "content": content}));
        expect(&library, ADD_DOCUMENT, &body, status, part).await?;
    }
    let missing = with(&base, json!({"path": "8"}));
    expect(&library, ADD_DOCUMENT, &missing, 422, "body.content: Field required").await?;
    let flag = json!({"path": "8", "content": {"type": "text", "text": ""}, "overwrite": "true"});
    expect(&library, ADD_DOCUMENT, &with(&base, flag), 422, "valid boolean").await?;
    let nowhere = json!({
        "collection_name": "none", "path": "a", "content": {"type": "text", "text": ""},
    });
    expect(&library, ADD_DOCUMENT, &nowhere, 404, "`none` not found").await?;

    let status = library.settled().await?;
    ensure!(status["num_indexed_documents"] == 7, "{status}");
    for (path, content, size, pages) in [
        ("1", "", 0, json!(null)),
        ("2", "a\u{0}b \u{1F9A6}", 8, json!(null)),
        ("3", "\na", 2, json!(2)),
        ("4", "a", 1, json!(1)),
        ("6.txt", "a", 1, json!(null)),
        ("7.txt", "", 0, json!(null)),
    ] {
        let found = library.document(path).await?;
        ensure!(found["content"] == content && found["size"] == size, "{found}");
        ensure!(found["num_pages"] == pages, "{found}");
    }
    Ok(())
}

/// Pages of a list would repeat or be left out, or a client's loop would never end.
#[tokio::test]
async fn lists_go_on_after_a_path() -> Result<()> {
    let library = Library::empty().await?;
    let paths = ["a", "a/1", "a/2", "b", "é", "日"];
    for path in paths {
        library.add_text(path, "x").await?;
    }
    let base = json!({"collection_name": "c"});
    let listed = async |query: &str, fields: Value| -> Result<Vec<String>> {
        let body = library.ask(&format!("{LIST}{query}"), &with(&base, fields)).await?;
        let documents = body["documents"].as_array().cloned().unwrap_or_default();
        Ok(documents.iter().filter_map(|it| Some(it["path"].as_str()?.to_owned())).collect())
    };
    for (query, fields, expected) in [
        ("", json!({"limit": 1024}), &paths[..]),
        ("", json!({"limit": null, "path_gt": null, "path_prefix": null}), &paths),
        ("", json!({"limit": 1}), &["a"]),
        ("", json!({"limit": 2.0, "path_gt": "a"}), &["a/1", "a/2"]),
        ("", json!({"path_gt": ""}), &paths),
        ("", json!({"path_gt": "b"}), &["é", "日"]),
        ("", json!({"path_gt": "日"}), &[]),
        ("", json!({"path_prefix": "a/"}), &["a/1", "a/2"]),
        ("", json!({"path_prefix": "a/", "path_gt": "a/1"}), &["a/2"]),
        ("", json!({"path_prefix": "a/", "path_gt": "A"}), &["a/1", "a/2"]),
        ("", json!({"path_prefix": "a/", "path_gt": "b"}), &[]),
        ("", json!({"id_gt": "z"}), &paths),
        // Node's client puts it there and repeats the body.
        ("?path_gt=a%2F2", json!({"path_gt": "a"}), &["b", "é", "日"]),
        ("?path_gt=%C3%A9", json!({}), &["日"]),
        ("?other=b", json!({"limit": 1}), &["a"]),
    ] {
        let found = listed(query, fields.clone()).await?;
        ensure!(found == expected, "{query} {fields}: {found:?}");
    }
    for (fields, status, part) in [
        (json!({"limit": 0}), 400, "`limit` is 0; it may be 1 to 1024"),
        (json!({"limit": 1025}), 400, "1024"),
        (json!({"limit": -1}), 400, "1024"),
        (json!({"limit": 1e19}), 400, "1024"),
        (json!({"limit": "1"}), 422, "body.limit: Input should be a valid integer"),
        (json!({"path_gt": 1, "path_prefix": []}), 422, "body.path_prefix"),
        (json!({"collection_name": "none"}), 404, "`none` not found"),
    ] {
        expect(&library, LIST, &with(&base, fields), status, part).await?;
    }
    Ok(())
}

/// A script that repairs, changes or deletes documents would be told the wrong thing.
#[tokio::test]
async fn changes_need_the_status_that_they_name() -> Result<()> {
    let library = Library::empty().await?;
    library.add_text("good", "otter").await?;
    library.add("bad.pdf", json!({"type": "auto", "base64_data": "AP8B"})).await?;
    let status = library.settled().await?;
    ensure!(status["num_failed_documents"] == 1 && status["num_documents"] == 2, "{status}");
    let at =
        |path: &str, fields: Value| with(&json!({"collection_name": "c", "path": path}), fields);
    for (path, fields, status, part) in [
        ("good", json!({}), 200, ""),
        ("good", json!({"metadata": null, "index_status": null}), 200, ""),
        ("good", json!({"metadata": {}, "index_status": "not_parsed"}), 400, "in one request"),
        ("good", json!({"index_status": "not_parsed"}), 400, "`good` is `indexed`"),
        ("good", json!({"index_status": "not_indexed"}), 400, "needs `indexing_failed`"),
        ("good", json!({"index_status": "indexed"}), 422, "'not_parsed' or 'not_indexed'"),
        ("good", json!({"index_status": 1}), 422, "'not_parsed' or 'not_indexed'"),
        ("bad.pdf", json!({"metadata": {"a": "b"}}), 400, "needs `indexed`"),
        ("bad.pdf", json!({"index_status": "not_indexed"}), 400, "is `parsing_failed`"),
        ("bad.pdf", json!({"index_status": "not_parsed"}), 200, ""),
        ("none", json!({}), 404, "`none` not found"),
        ("none", json!({"index_status": "not_parsed"}), 404, "`none` not found"),
    ] {
        expect(&library, UPDATE, &at(path, fields), status, part).await?;
    }
    library.settled().await?;
    for (route, path, fields, status, part) in [
        (INFO, "good", json!({"include_content": null}), 200, ""),
        (INFO, "good", json!({"include_content": 1}), 422, "valid boolean"),
        (INFO, "none", json!({}), 404, "`none` not found in collection `c`"),
        (PAGE, "good", json!({"page_index": 0}), 200, ""),
        (PAGE, "good", json!({}), 422, "body.page_index: Field required"),
        (PAGE, "good", json!({"page_index": null}), 422, "valid integer"),
        (PAGE, "good", json!({"page_index": -1}), 400, "pages count from 0"),
        (PAGE, "good", json!({"page_index": 1}), 404, "it has 1, from 0"),
        (PAGE, "good", json!({"page_index": i64::MAX}), 404, "has no page"),
        (PAGE, "bad.pdf", json!({"page_index": 0}), 404, "is `parsing_failed`"),
        (PAGE, "none", json!({"page_index": 0}), 404, "`none` not found"),
    ] {
        expect(&library, route, &at(path, fields), status, part).await?;
    }
    let page = json!({"collection_name": "c", "path": "good", "page_index": 0});
    let page = library.ask(PAGE, &page).await?["page"].take();
    ensure!(page["content"].is_null() && page["image_url"].is_null(), "{page}");

    let many = |count: usize| (0..count).map(|path| path.to_string()).collect::<Vec<_>>();
    for (paths, status, part) in [
        (json!([]), 400, "`path` has 0 paths"),
        (json!(many(65)), 400, "1 to 64"),
        (json!(many(64)), 404, "`0` not found"),
        (json!([""]), 400, "`path` is 0 bytes"),
        (json!(["good", 1]), 422, "body.path.1"),
        (json!(null), 422, "body.path"),
        (json!("none"), 404, "`none` not found"),
    ] {
        expect(&library, DELETE, &json!({"collection_name": "c", "path": paths}), status, part)
            .await?;
    }
    let body = json!({"collection_name": "c", "path": ["x", "good", "bad.pdf", "good"]});
    let deleted = library.ask(DELETE, &body).await?;
    ensure!(deleted == json!({"deleted_paths": ["good", "bad.pdf"]}), "{deleted}");

    let status = "/status/get-status";
    expect(&library, status, &json!({"collection_name": "none"}), 404, "`none`").await?;
    expect(&library, status, &json!({"collection_name": ""}), 404, "not found").await?;
    expect(&library, status, &json!({"collection_name": 1}), 422, "valid string").await?;
    for body in ["", "{}", r#"{"collection_name":null}"#, r#"{"collection_name":"c"}"#] {
        let answer = library.post_bytes(status, body).await?;
        ensure!((answer.status, &answer.body["num_documents"]) == (200, &json!(0)), "{body}");
    }
    Ok(())
}
