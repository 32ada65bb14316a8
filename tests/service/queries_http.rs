//! Queries over HTTP: every limit from both sides, and every field of the answers.

use anyhow::{Context, Result, ensure};
use reranker_tests::library::Library;
use serde_json::{Value, json};

const DOCUMENTS: &str = "/queries/top-documents";
const PAGES: &str = "/queries/top-pages";
const SNIPPETS: &str = "/queries/top-snippets";
const ALL: [&str; 3] = [DOCUMENTS, PAGES, SNIPPETS];

/// A question with these fields instead of its own.
fn question(fields: Value) -> Value {
    let mut question = json!({"collection_name": "c", "query": "otter", "k": 1});
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    question.as_object_mut().expect("is an object").extend(fields);
    question
}

async fn library() -> Result<Library> {
    let library = Library::empty().await?;
    library.add("a", json!({"type": "text-pages", "pages": ["the otter swims", "x"]})).await?;
    library.add_text("b", "no river").await?;
    library.settled().await?;
    Ok(library)
}

/// Asks, and compares the status and a part of the message.
async fn expect(
    library: &Library,
    route: &str,
    fields: Value,
    status: u16,
    part: &str,
) -> Result<()> {
    let body = question(fields);
    let answer = library.post(&format!("/v1{route}"), &body).await?;
    let message = answer.body["message"].as_str().unwrap_or_default();
    let start: String = body.to_string().chars().take(200).collect();
    ensure!(
        answer.status == status && message.contains(part),
        "{route} {start}: {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}

/// The SDKs in strict mode take no answer in which a field is missing.
#[tokio::test]
async fn answers_have_every_field() -> Result<()> {
    let library = library().await?;
    let fields = |value: &Value| -> Vec<String> {
        value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
    };
    let document = ["file_url", "metadata", "path", "score"];
    let page = ["content", "image_url", "page_index", "path", "score"];
    let snippet = ["content", "end_index", "page_span", "path", "score", "start_index"];
    for (route, result) in [(DOCUMENTS, &document[..]), (PAGES, &page), (SNIPPETS, &snippet)] {
        let answer = library.ask(route, &question(json!({}))).await?;
        ensure!(fields(&answer["results"][0]) == result, "{answer}");
        if route == DOCUMENTS {
            ensure!(fields(&answer) == ["results"], "{answer}");
        } else {
            ensure!(fields(&answer) == ["document_results", "results"], "{answer}");
            ensure!(fields(&answer["document_results"][0]) == document, "{answer}");
        }
    }
    let asked = json!({"include_content": true, "include_metadata": true});
    let answer = library.ask(PAGES, &question(asked)).await?;
    let result = &answer["results"][0];
    ensure!((&result["content"], &result["page_index"]) == (&json!("the otter swims"), &json!(0)));
    ensure!(answer["document_results"][0]["metadata"] == json!({}), "{answer}");
    let nulls = json!({
        "filter": null, "reranker": null, "latency_mode": null, "include_metadata": null,
        "include_content": null, "precise_responses": null, "include_document_metadata": null,
        "unknown": 1, "k": 1.0,
    });
    for route in ALL {
        let found = library.ask(route, &question(nulls.clone())).await?;
        ensure!(found["results"].as_array().is_some_and(|results| results.len() == 1), "{found}");
    }
    Ok(())
}

/// A client that counts to the documented limit would be refused, or one past it could fill the memory.
#[tokio::test]
async fn questions_have_limits() -> Result<()> {
    let library = library().await?;
    for (route, most) in [(DOCUMENTS, 2048), (PAGES, 1024), (SNIPPETS, 128)] {
        expect(&library, route, json!({"k": most}), 200, "").await?;
        let range = format!("it may be 1 to {most}");
        for k in [json!(0), json!(-1), json!(most + 1), json!(1e300), json!(u64::MAX)] {
            expect(&library, route, json!({"k": k}), 400, &range).await?;
        }
        for k in [json!("1"), json!(1.5), json!(true), json!(null), json!([1])] {
            expect(&library, route, json!({"k": k}), 422, "body.k").await?;
        }
        let mut without = question(json!({}));
        without.as_object_mut().context("is an object")?.remove("k");
        let answer = library.post(route, &without).await?;
        ensure!(answer.status == 422 && answer.body["message"] == "body.k: Field required");
        expect(&library, route, json!({"collection_name": "none"}), 404, "`none`").await?;
        expect(&library, route, json!({"collection_name": ""}), 400, "0 bytes").await?;
        expect(&library, route, json!({"query": 1}), 422, "body.query").await?;
    }
    // 4,096 bytes, or as many characters.
    let bytes = "é".repeat(2048);
    for route in [DOCUMENTS, PAGES] {
        expect(&library, route, json!({"query": bytes}), 200, "").await?;
        let over = json!({"query": format!("{bytes}a")});
        expect(&library, route, over, 400, "`query` is 4097 bytes long").await?;
    }
    expect(&library, SNIPPETS, json!({"query": "é".repeat(4096)}), 200, "").await?;
    let over = json!({"query": "é".repeat(4097)});
    expect(&library, SNIPPETS, over, 400, "`query` is 4097 characters long").await?;
    for query in ["", " ", "\u{0}", "AND (", "\"", "*", "a:b", "日本"] {
        for route in ALL {
            expect(&library, route, json!({"query": query, "k": 2}), 200, "").await?;
        }
    }
    expect(&library, DOCUMENTS, json!({"query": null}), 200, "").await?;
    expect(&library, PAGES, json!({"query": null}), 422, "body.query").await?;
    expect(&library, SNIPPETS, json!({"query": null}), 422, "body.query").await?;

    for route in [DOCUMENTS, SNIPPETS] {
        expect(&library, route, json!({"reranker": "m"}), 200, "").await?;
        let missing = "model `x` not found; available: m";
        expect(&library, route, json!({"reranker": "x"}), 404, missing).await?;
        expect(&library, route, json!({"reranker": 1}), 422, "body.reranker").await?;
    }
    expect(&library, PAGES, json!({"reranker": "x"}), 200, "").await?;
    for route in [DOCUMENTS, PAGES] {
        expect(&library, route, json!({"latency_mode": "high"}), 200, "").await?;
        expect(&library, route, json!({"latency_mode": "fast"}), 422, "'low' or 'high'").await?;
        expect(&library, route, json!({"include_metadata": "yes"}), 422, "valid boolean").await?;
    }
    expect(&library, SNIPPETS, json!({"latency_mode": "fast"}), 200, "").await?;
    expect(&library, SNIPPETS, json!({"precise_responses": 1}), 422, "valid boolean").await
}

/// A filter that is nested or long without end would end the process, or hold a core for ever.
#[tokio::test]
async fn filters_have_limits() -> Result<()> {
    let library = library().await?;
    // With the outermost one.
    let nested = |depth: usize| {
        let ends = |count: usize| (r#"{"$or":["#.repeat(count), "]}".repeat(count));
        let (begin, end) = ends(depth - 1);
        let filter = format!(r#"{begin}{{"a":{{"$nin":["b"]}}}}{end}"#);
        format!(r#"{{"collection_name":"c","query":"otter","k":1,"filter":{filter}}}"#)
    };
    for route in ALL {
        for (depth, status) in [(1, 200), (32, 200), (33, 400), (1_000, 400), (100_000, 400)] {
            let answer = library.post_bytes(route, nested(depth)).await?;
            ensure!(answer.status == status, "{depth} deep: {}", answer.body);
            let told = answer.body["message"].as_str().unwrap_or_default();
            ensure!(status == 200 || told == "a filter may be nested 32 deep", "{told}");
        }
    }
    let values: Vec<String> = (0..5_000).map(|value| value.to_string()).collect();
    let clauses: Vec<Value> = values.iter().map(|value| json!({"a": {"$ne": value}})).collect();
    for filter in [
        json!({"$and": clauses[..4_096]}),
        json!({"$or": clauses[..4_096]}),
        json!({"a": {"$nin": values}}),
        json!({"$and": [{}, {"a": {}}]}),
    ] {
        for route in ALL {
            let found = library.ask(route, &question(json!({"filter": filter}))).await?;
            ensure!(found["results"][0]["path"] == "a", "{found}");
        }
    }
    for (filter, status, part) in [
        (json!("a"), 400, "a filter is an object"),
        (json!([]), 400, "a filter is an object"),
        (json!({"$not": {}}), 400, "`$not` in a filter is no operator between filters"),
        (json!({"$and": {}}), 400, "`$and` in a filter needs a list"),
        (json!({"a b": "c"}), 400, "`a b` in a filter"),
        (json!({"a": ["b"]}), 400, "`a` in a filter needs a string or operators"),
        (json!({"a": {"eq": "b"}}), 400, "`eq` in a filter is no operator"),
        (json!({"a": {"$in": "b"}}), 400, "`$in` in a filter needs a list of strings"),
        (json!({"a": {"$eq": ["b"]}}), 400, "`$eq` in a filter needs a string"),
        (json!({"$or": clauses[..4_097]}), 400, "a filter may have 4096 comparisons"),
        (json!({"list:a": "b"}), 400, "`$in` and `$nin` fit it"),
        (json!({"a": 1}), 422, "body.filter.a: Input should be a valid string"),
        (json!({"$or": [{"a": {"$in": ["b", null]}}]}), 422, "body.filter.$or.0.a.$in.1"),
        (json!(1), 422, "body.filter: Input should be a valid string"),
        (json!({"x".repeat(100_000): 1}), 422, "…"),
    ] {
        for route in ALL {
            expect(&library, route, json!({"filter": filter}), status, part).await?;
        }
    }
    Ok(())
}
