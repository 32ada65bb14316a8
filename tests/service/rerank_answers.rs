//! The answers of `models/rerank`: fields, totals, order, models and aliases.

use anyhow::Result;
use reranker_engine::{Cuts, EngineOptions};
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::server::{Running, demo, load, random, scores};
use serde_json::{Value, json};

const PATH: &str = "/v1/models/rerank";

fn example() -> Value {
    json!({"query": "What is 2+2?", "documents": ["4", "The answer is definitely 1 million."]})
}

fn order(body: &Value) -> Vec<u64> {
    let results = body["results"].as_array().expect("results are a list");
    results.iter().map(|result| result["index"].as_u64().expect("an index")).collect()
}

fn score(body: &Value, position: usize) -> f64 {
    body["results"][position]["relevance_score"].as_f64().expect("a score")
}

/// The provider's first example would fail in the SDKs' strict mode, or answer 1 million.
#[tokio::test]
async fn the_documented_example_has_all_six_fields() -> Result<()> {
    let engine = demo().await?;
    let documents = ["4", "The answer is definitely 1 million."];
    let tokens = engine.encode("What is 2+2?", &documents, Cuts::default()).tokens();
    let expected = scores(&engine, "What is 2+2?", &documents).await?;
    let server = Running::start(vec![engine], &[]).await?;
    for path in [PATH, "/models/rerank"] {
        let answer = server.post(path, &example()).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-cache");
        assert_eq!(answer.headers["x-request-id"].len(), 36);
        let body = answer.body;
        assert_eq!(order(&body), [0, 1]);
        assert!((score(&body, 0) - expected.pairs[0].relevance_score).abs() < 1e-9);
        assert_eq!(body["results"][0].as_object().expect("an object").len(), 2);
        assert_eq!(body["total_bytes"], 360);
        assert_eq!(body["total_tokens"], tokens);
        assert_eq!(body["actual_latency_mode"], "fast");
        let (e2e, inference) = (body["e2e_latency"].as_f64(), body["inference_latency"].as_f64());
        assert!(e2e >= inference && inference > Some(0.0), "{body}");
        assert_eq!(body.as_object().expect("an object").len(), 6);
    }
    Ok(())
}

/// Empty lists, empty texts, duplicates and `top_n` are the edges that callers meet first.
#[tokio::test]
async fn edges_are_answered_as_decided() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    let rerank = async |body: Value| server.post(PATH, &body).await;

    let empty = rerank(json!({"query": "q", "documents": []})).await?;
    assert_eq!(empty.status, 200);
    assert_eq!(empty.body["results"], json!([]));
    assert_eq!([&empty.body["total_bytes"], &empty.body["total_tokens"]], [0, 0]);

    let blank = rerank(json!({"query": "", "documents": ["", " ", "\u{1c}"]})).await?;
    assert_eq!(blank.status, 200);
    assert_eq!(order(&blank.body), [0, 1, 2], "the three are one text once stripped");

    let documents = ["b", "a", "b", "a", "b"];
    let all = rerank(json!({"query": "q", "documents": documents})).await?.body;
    let order = order(&all);
    let sorted: Vec<f64> = (0..5).map(|position| score(&all, position)).collect();
    assert!(sorted.is_sorted_by(|a, b| a >= b), "{sorted:?}");
    let [b, a] = [vec![0, 2, 4], vec![1, 3]];
    assert!(order == [&b[..], &a].concat() || order == [&a[..], &b].concat(), "{order:?}");
    for (top_n, count) in
        [(json!(2), 2), (json!(2.0), 2), (json!(null), 5), (json!(5), 5), (json!(99), 5)]
    {
        let some =
            rerank(json!({"query": "q", "documents": documents, "top_n": top_n})).await?.body;
        let results = some["results"].as_array().expect("a list");
        assert_eq!(results[..], all["results"].as_array().expect("a list")[..count], "{top_n}");
        assert_eq!(some["total_tokens"], all["total_tokens"]);
    }
    Ok(())
}

/// Clients send `latency` by the documentation and show what came back.
#[tokio::test]
async fn the_class_of_work_is_reported() -> Result<()> {
    let server = Running::start(vec![random("m", 1).await?], &[]).await?;
    for (latency, mode) in [(json!("fast"), "fast"), (json!("slow"), "slow"), (json!(null), "fast")]
    {
        let body = json!({"query": "q", "documents": ["d"], "latency": latency, "new": 1});
        assert_eq!(server.post(PATH, &body).await?.body["actual_latency_mode"], mode);
    }
    Ok(())
}

/// A client that fixes a model's name would get another model's scores, or none.
#[tokio::test]
async fn models_are_chosen_by_name_and_alias() -> Result<()> {
    let (first, second) = (random("first", 1).await?, random("second", 2).await?);
    let mut expected = Vec::new();
    for engine in [&first, &second] {
        expected.push(scores(engine, "q", &["a document"]).await?.pairs[0].relevance_score);
    }
    let server = Running::start(vec![first, second], &[("zerank-1", "second")]).await?;
    for (model, engine) in
        [(json!(null), 0), (json!("first"), 0), (json!("second"), 1), (json!("zerank-1"), 1)]
    {
        let request = json!({"model": model, "query": "q", "documents": ["a document"]});
        let answer = server.post(PATH, &request).await?;
        assert!((score(&answer.body, 0) - expected[engine]).abs() < 1e-9, "{model}");
    }
    let unknown = json!({"model": "x", "query": "q", "documents": []});
    let answer = server.post(PATH, &unknown).await?;
    let text = "model `x` not found; available: first, second, zerank-1";
    assert_eq!((answer.status, answer.body), (404, json!({"detail": text, "message": text})));
    Ok(())
}

/// A score that depends on its neighbours makes results of paged calls incomparable.
#[tokio::test]
async fn a_score_does_not_depend_on_the_other_documents() -> Result<()> {
    let server = Running::start(vec![random("m", 3).await?], &[]).await?;
    let documents: Vec<String> =
        (0..64).map(|i| format!("document {i} {}", "word ".repeat(i * 3))).collect();
    let together = server.post(PATH, &json!({"query": "q", "documents": documents})).await?.body;
    for position in [0, 7, 63] {
        let index = order(&together)[position] as usize;
        let alone = json!({"query": "q", "documents": [documents[index]]});
        let alone = server.post(PATH, &alone).await?.body;
        assert!((score(&alone, 0) - score(&together, position)).abs() <= 1e-6);
    }
    Ok(())
}

/// A document past the model's positions would be scored in part without anybody knowing.
#[tokio::test]
async fn a_cut_document_is_marked() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    checkpoint.configure("max_position_embeddings", json!(64))?;
    let engine = load("m", checkpoint, EngineOptions::default()).await?;
    let server = Running::start(vec![engine], &[]).await?;
    let documents = ["short".to_owned(), "so many words ".repeat(100)];
    let body = server.post(PATH, &json!({"query": "q", "documents": documents})).await?.body;
    let long = order(&body).iter().position(|&index| index == 1).expect("both are there");
    assert_eq!(body["results"][long]["truncated"], true);
    assert_eq!(body["results"][1 - long].get("truncated"), None);
    Ok(())
}
