//! The rerank routes of other APIs: what their clients send and read.

use anyhow::Result;
use reranker_tests::server::{Answer, Running, random};
use serde_json::{Value, json};

const QUERY: &str = "which planet is red";
const DOCUMENTS: [&str; 4] = ["venus", "mars is the red planet", "", "jupiter has a red spot"];

/// The routes whose answer holds every client's members.
const RERANK: [&str; 3] = ["/rerank", "/v1/rerank", "/v2/rerank"];

async fn server() -> Result<Running> {
    Running::start(vec![random("m", 1).await?], &[("alias", "m")]).await
}

fn asked(more: &Value) -> Value {
    let mut body = json!({"query": QUERY, "documents": DOCUMENTS});
    for (name, value) in more.as_object().expect("fields") {
        body[name] = value.clone();
    }
    body
}

async fn ok(server: &Running, path: &str, body: &Value) -> Result<Value> {
    let answer = server.post(path, body).await?;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    Ok(answer.body)
}

/// Index and score of each result.
fn pairs(list: &Value, score: &str) -> Vec<(u64, f64)> {
    let items = list.as_array().expect("a list").iter();
    items
        .map(|item| (item["index"].as_u64().expect("index"), item[score].as_f64().expect("score")))
        .collect()
}

/// What the hosted API's route says of `documents`: the other routes must say the same.
async fn expected(server: &Running, documents: &[&str]) -> Result<Vec<(u64, f64)>> {
    let body = json!({"query": QUERY, "documents": documents});
    Ok(pairs(&ok(server, "/v1/models/rerank", &body).await?["results"], "relevance_score"))
}

fn assert_error(answer: &Answer, status: u16, kind: &str, location: &Value) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let entry = &answer.body["detail"][0];
    assert_eq!((&entry["type"], &entry["loc"]), (&json!(kind), location), "{}", answer.body);
}

/// Each client finds the members it reads, and every route gives the same scores; a client that
/// moves here would see its documents in another order.
#[tokio::test]
async fn one_answer_holds_what_every_client_reads() -> Result<()> {
    let server = server().await?;
    let expected = expected(&server, &DOCUMENTS).await?;
    for (path, version) in RERANK.iter().zip(["1", "1", "2"]) {
        let body = ok(&server, path, &asked(&json!({"model": "alias"}))).await?;
        assert_eq!(pairs(&body["results"], "relevance_score"), expected, "{path}");
        assert_eq!(pairs(&body["data"], "relevance_score"), expected, "{path}");
        assert!(body["id"].as_str().is_some_and(|id| id.starts_with("rerank-")), "{path}");
        assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("m")));
        let tokens = body["usage"]["total_tokens"].as_u64().expect("tokens");
        assert!(tokens > 0);
        assert_eq!(body["usage"]["prompt_tokens"], tokens);
        assert_eq!(body["meta"]["api_version"]["version"], version, "{path}");
        assert_eq!(body["meta"]["billed_units"]["search_units"], 1);
    }
    let many = json!({"query": "q", "documents": vec!["d"; 101]});
    let units = &ok(&server, "/v2/rerank", &many).await?["meta"]["billed_units"]["search_units"];
    assert_eq!(units, 2);
    let none = json!({"query": "q", "documents": []});
    let body = ok(&server, "/v1/rerank", &none).await?;
    assert_eq!((&body["results"], &body["data"]), (&json!([]), &json!([])));
    assert_eq!(body["meta"]["billed_units"]["search_units"], 0);
    Ok(())
}

/// Jina's and vLLM's clients read the texts unasked, Cohere's v2 and Voyage's only if asked.
#[tokio::test]
async fn documents_come_back_as_each_api_has_it() -> Result<()> {
    let server = server().await?;
    for path in RERANK {
        for (given, in_results, in_data) in [
            (json!({}), path != "/v2/rerank", false),
            (json!({"return_documents": null}), path != "/v2/rerank", false),
            (json!({"return_documents": true}), true, true),
            (json!({"return_documents": false}), false, false),
        ] {
            let body = ok(&server, path, &asked(&given)).await?;
            for (list, is_there, text) in
                [("results", in_results, "/document/text"), ("data", in_data, "/document")]
            {
                for item in body[list].as_array().expect("a list") {
                    let index = usize::try_from(item["index"].as_u64().expect("index"))?;
                    assert_eq!(item.get("document").is_some(), is_there, "{path} {given} {list}");
                    let text = item.pointer(text).map(|text| text.as_str().expect("a text"));
                    assert_eq!(text, is_there.then_some(DOCUMENTS[index]), "{path} {given}");
                }
            }
        }
    }
    Ok(())
}

/// Cohere's v1 and Jina take objects; what is scored must be the text that they stand for.
#[tokio::test]
async fn documents_may_be_objects() -> Result<()> {
    let server = server().await?;
    let documents = json!([
        {"text": "mars", "title": "ignored"},
        "a string",
        {"title": "Mars", "year": 2026, "red": true, "text": "a planet", "gone": null},
    ]);
    let body = json!({"query": QUERY, "documents": documents});
    let answer = ok(&server, "/v1/rerank", &body).await?;
    let texts = ["mars", "a string", "a planet"];
    assert_eq!(pairs(&answer["results"], "relevance_score"), expected(&server, &texts).await?);

    let mut body = body;
    body["rank_fields"] = json!(["year", "title", "gone", "missing", "red"]);
    let answer = ok(&server, "/v1/rerank", &body).await?;
    let texts = ["title: ignored", "a string", "year: 2026\ntitle: Mars\nred: true"];
    assert_eq!(pairs(&answer["results"], "relevance_score"), expected(&server, &texts).await?);
    let first = &answer["results"][0];
    let index = usize::try_from(first["index"].as_u64().expect("index"))?;
    assert_eq!(first["document"]["text"], texts[index]);
    Ok(())
}

/// All wrong fields at once, in the words of the hosted API's route.
#[tokio::test]
async fn wrong_fields_are_all_named() -> Result<()> {
    let server = server().await?;
    let wrong = json!({
        "documents": [{"text": 1}, {"title": "t"}, 5], "top_k": -1, "top_n": 1.5,
        "return_documents": "yes", "max_tokens_per_doc": "9", "rank_fields": null,
    });
    let answer = server.post("/v1/rerank", &wrong).await?;
    assert_eq!(answer.status, 422);
    let entries = answer.body["detail"].as_array().expect("a list");
    let seen: Vec<_> = entries.iter().map(|entry| json!([entry["type"], entry["loc"]])).collect();
    let expected = json!([
        ["missing", ["body", "query"]],
        ["string_type", ["body", "documents", 0, "text"]],
        ["missing", ["body", "documents", 1, "text"]],
        ["string_type", ["body", "documents", 2]],
        ["int_from_float", ["body", "top_n"]],
        ["greater_than_equal", ["body", "top_k"]],
        ["int_type", ["body", "max_tokens_per_doc"]],
        ["bool_type", ["body", "return_documents"]],
    ]);
    assert_eq!(json!(seen), expected);
    let nested = json!({"query": "q", "documents": [{"a": []}], "rank_fields": ["a"]});
    let answer = server.post("/v1/rerank", &nested).await?;
    assert_error(&answer, 422, "string_type", &json!(["body", "documents", 0]));
    let answer = server.post("/v2/rerank", &asked(&json!({"model": "other"}))).await?;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.body["detail"], "model `other` not found; available: m, alias");
    assert_eq!(answer.body.get("error"), None);
    Ok(())
}

/// Zero and null are "all" in vLLM and in the calls of `LangChain`, not "none".
#[tokio::test]
async fn top_n_and_top_k_cut_the_list() -> Result<()> {
    let server = server().await?;
    for (given, count) in [
        (json!({"top_n": 2}), 2),
        (json!({"top_k": 3}), 3),
        (json!({"top_n": 1, "top_k": 3}), 1),
        (json!({"top_n": 0}), 4),
        (json!({"top_k": 0, "top_n": null}), 4),
        (json!({"top_n": 9}), 4),
    ] {
        let body = ok(&server, "/v1/rerank", &asked(&given)).await?;
        for list in ["results", "data"] {
            assert_eq!(body[list].as_array().map(Vec::len), Some(count), "{given}");
        }
    }
    Ok(())
}

/// A caller that limits tokens pays for more than it asked for, or gets scores of other texts.
#[tokio::test]
async fn token_limits_only_shorten() -> Result<()> {
    let server = server().await?;
    let tokens = async |more: Value| -> Result<u64> {
        let body = ok(&server, "/v2/rerank", &asked(&more)).await?;
        Ok(body["usage"]["total_tokens"].as_u64().expect("tokens"))
    };
    let whole = tokens(json!({})).await?;
    for name in
        ["max_tokens_per_doc", "max_doc_length", "truncate_prompt_tokens", "max_tokens_per_query"]
    {
        assert!(tokens(json!({name: 1})).await? < whole, "{name}");
        for none in [json!(0), json!(-1), json!(4096), json!(null)] {
            assert_eq!(tokens(json!({name: none})).await?, whole, "{name}");
        }
    }
    Ok(())
}

/// TEI's clients read a bare list, and the raw score is what the relevance is the sigmoid of.
#[tokio::test]
async fn texts_are_answered_as_tei_does() -> Result<()> {
    let server = server().await?;
    let expected = expected(&server, &DOCUMENTS).await?;
    let mut body = json!({"query": QUERY, "texts": DOCUMENTS, "truncate": true});
    let list = ok(&server, "/rerank", &body).await?;
    assert_eq!(pairs(&list, "score"), expected);
    assert!(list.as_array().expect("a list").iter().all(|item| item.get("text").is_none()));
    assert_eq!(ok(&server, "/v1/rerank", &body).await?, list);

    body["raw_scores"] = json!(true);
    body["return_text"] = json!(true);
    let list = ok(&server, "/rerank", &body).await?;
    for (item, (index, score)) in list.as_array().expect("a list").iter().zip(expected) {
        assert_eq!(item["text"], DOCUMENTS[usize::try_from(index)?]);
        let raw = item["score"].as_f64().expect("a score");
        assert!((1.0 / (1.0 + (-raw).exp()) - score).abs() < 1e-6, "{raw} {score}");
    }
    body["texts"] = json!([]);
    assert_eq!(ok(&server, "/rerank", &body).await?, json!([]));
    Ok(())
}

/// TEI's clients decide by `error_type` whether to try again.
#[tokio::test]
async fn teis_errors_have_its_members_too() -> Result<()> {
    let server = server().await?;
    let texts = json!({"query": 1, "texts": ["a"], "return_text": 1});
    for (path, body) in [
        ("/rerank", texts.to_string()),
        ("/v1/rerank", texts.to_string()),
        ("/rerank", "{".to_owned()),
        ("/rerank", json!({"query": "q", "texts": ["a"], "model": "x"}).to_string()),
        ("/rerank", json!({"query": "q", "texts": ["a".repeat(5_000_000)]}).to_string()),
    ] {
        let answer = server.post_bytes(path, body).await?;
        assert!(answer.status >= 400);
        assert_eq!(answer.body["error"], answer.body["message"]);
        assert_eq!(answer.body["error_type"], "validation");
        assert!(!answer.body["detail"].is_null());
    }
    for (path, body) in [("/rerank", r#"{"documents": []}"#), ("/v1/rerank", "{")] {
        let answer = server.post_bytes(path, body).await?;
        assert_eq!((answer.status, answer.body.get("error")), (422, None), "{path}");
    }
    let loading = Running::start(Vec::new(), &[]).await?;
    let answer = loading.post("/rerank", &json!({"query": "q", "texts": []})).await?;
    assert_eq!((answer.status, &answer.body["error_type"]), (503, &json!("unhealthy")));
    assert!(answer.headers.contains_key("retry-after"));
    Ok(())
}

/// vLLM's clients get a score for each pair in their order, never the best first.
#[tokio::test]
async fn pairs_are_scored_as_vllm_does() -> Result<()> {
    let server = server().await?;
    let mut by_index = expected(&server, &DOCUMENTS).await?;
    by_index.sort_by_key(|(index, _)| *index);
    let [left, right] = [vec![QUERY; 4], DOCUMENTS.to_vec()];
    for (path, body) in [
        ("/score", json!({"text_1": QUERY, "text_2": right})),
        ("/v1/score", json!({"model": "m", "queries": [QUERY], "documents": right})),
        ("/score", json!({"queries": QUERY, "items": right, "text_1": null})),
        ("/score", json!({"data_1": left, "data_2": right})),
    ] {
        let answer = ok(&server, path, &body).await?;
        assert_eq!(pairs(&answer["data"], "score"), by_index, "{body}");
        assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("m")));
        assert!(answer["created"].as_u64().is_some_and(|seconds| seconds > 1_700_000_000));
        assert_eq!(answer["data"][0]["object"], "score");
        assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    }
    // Queries that come and go: each keeps its own document.
    let (left, right) = (json!([QUERY, "a", "a", QUERY]), json!(["venus", "b", "c", "venus"]));
    let data = &ok(&server, "/score", &json!({"text_1": left, "text_2": right})).await?["data"];
    let pairwise = pairs(data, "score");
    assert_eq!(pairwise.iter().map(|pair| pair.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(pairwise[0].1.to_bits(), pairwise[3].1.to_bits());
    let one = &ok(&server, "/score", &json!({"text_1": "a", "text_2": "c"})).await?["data"];
    assert_eq!(pairs(one, "score"), [(0, pairwise[2].1)]);

    let raw = json!({"text_1": QUERY, "text_2": DOCUMENTS, "use_activation": false});
    for ((_, raw), (_, score)) in
        pairs(&ok(&server, "/score", &raw).await?["data"], "score").iter().zip(&by_index)
    {
        assert!((1.0 / (1.0 + (-raw).exp()) - score).abs() < 1e-6, "{raw} {score}");
    }
    Ok(())
}

/// Lists that do not match would be scored against the wrong partner.
#[tokio::test]
async fn pairs_that_do_not_match_are_refused() -> Result<()> {
    let server = server().await?;
    for (body, kind, location) in [
        (json!({"queries": ["a", "b"], "documents": ["c"]}), "value_error", "queries"),
        (json!({"text_1": [], "text_2": "c"}), "value_error", "text_1"),
        (json!({"text_2": "c"}), "missing", "text_1"),
        (json!({"text_1": "c"}), "missing", "text_2"),
        (json!({"text_1": 1, "text_2": "c"}), "list_type", "text_1"),
    ] {
        let answer = server.post("/score", &body).await?;
        assert_error(&answer, 422, kind, &json!(["body", location]));
    }
    let empty = json!({"text_1": [], "text_2": []});
    assert_eq!(ok(&server, "/score", &empty).await?["data"], json!([]));
    let pairs = vec!["x".repeat(100_000); 30];
    let answer = server.post("/score", &json!({"text_1": pairs, "text_2": pairs})).await?;
    assert_eq!(answer.status, 400, "{}", answer.body);
    Ok(())
}

/// A route by mistake is an answer of another shape some day.
#[tokio::test]
async fn only_the_documented_routes_are_there() -> Result<()> {
    let server = server().await?;
    for path in ["/v1/v1/rerank", "/v1/v2/rerank", "/v2/score", "/v2/models/rerank", "/v1/scores"] {
        assert_eq!(server.post(path, &asked(&json!({}))).await?.status, 404, "{path}");
    }
    for path in RERANK.iter().chain(&["/score"]) {
        assert_eq!(server.method(reqwest::Method::GET, path).await?.status, 405, "{path}");
    }
    Ok(())
}
