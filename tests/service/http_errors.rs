//! What the HTTP API says to a request that it does not take.

use anyhow::Result;
use reqwest::Method;
use reranker_tests::server::{Answer, Running, random};
use serde_json::{Value, json};

const PATH: &str = "/v1/models/rerank";

async fn server() -> Result<Running> {
    Running::start(vec![random("m", 1).await?], &[("alias", "m")]).await
}

fn violation(kind: &str, location: &Value, message: &str) -> Value {
    let mut loc = vec![json!("body")];
    loc.extend(location.as_array().expect("steps").iter().cloned());
    json!({"type": kind, "loc": loc, "msg": message})
}

/// `detail` and `message` are equal and nothing else is there.
fn assert_plain(answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.body, json!({"detail": text, "message": text}));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers.contains_key("x-request-id"));
}

/// Users of the hosted API find their mistake by `loc`; one at a time costs them a call each.
#[tokio::test]
async fn all_wrong_fields_come_back_in_the_hosted_apis_shape() -> Result<()> {
    let server = server().await?;
    let body = json!({
        "documents": ["a", 1, null], "model": 5, "top_n": 0, "latency": "quick", "other": {}
    });
    let answer = server.post(PATH, &body).await?;
    assert_eq!(answer.status, 422);
    let (string, latency) = ("Input should be a valid string", "Input should be 'fast' or 'slow'");
    let at_least = "Input should be greater than or equal to 1";
    let detail = json!([
        violation("string_type", &json!(["model"]), string),
        violation("missing", &json!(["query"]), "Field required"),
        violation("string_type", &json!(["documents", 1]), string),
        violation("string_type", &json!(["documents", 2]), string),
        violation("greater_than_equal", &json!(["top_n"]), at_least),
        violation("literal_error", &json!(["latency"]), latency),
    ]);
    let message = format!(
        "body.model: {string}; body.query: Field required; body.documents.1: {string}; \
         body.documents.2: {string}; body.top_n: {at_least}; body.latency: {latency}"
    );
    assert_eq!(answer.body, json!({"detail": detail, "message": message}));
    assert!(answer.headers.contains_key("x-request-id"));
    assert!(!answer.headers.contains_key("x-should-retry"));
    Ok(())
}

/// Each kind of mistake by itself has the name that the hosted API gives it.
#[tokio::test]
async fn each_wrong_field_has_its_type() -> Result<()> {
    let server = server().await?;
    for (fields, kind, location) in [
        (json!({"query": null}), "string_type", json!(["query"])),
        (json!({"query": ["q"]}), "string_type", json!(["query"])),
        (json!({"documents": null}), "list_type", json!(["documents"])),
        (json!({"documents": "d"}), "list_type", json!(["documents"])),
        (json!({"documents": [["d"]]}), "string_type", json!(["documents", 0])),
        (json!({"top_n": "5"}), "int_type", json!(["top_n"])),
        (json!({"top_n": true}), "int_type", json!(["top_n"])),
        (json!({"top_n": 1.5}), "int_from_float", json!(["top_n"])),
        (json!({"top_n": -1}), "greater_than_equal", json!(["top_n"])),
        (json!({"latency": 1}), "literal_error", json!(["latency"])),
        (json!({"model": {}}), "string_type", json!(["model"])),
    ] {
        let mut body = json!({"query": "q", "documents": ["d"]});
        for (name, value) in fields.as_object().expect("fields") {
            body[name] = value.clone();
        }
        let answer = server.post(PATH, &body).await?;
        assert_eq!(answer.status, 422, "{fields}");
        let detail = answer.body["detail"].as_array().expect("a list");
        assert_eq!(detail.len(), 1, "{fields}: {detail:?}");
        let mut loc = vec![json!("body")];
        loc.extend(location.as_array().expect("steps").iter().cloned());
        assert_eq!(
            (&detail[0]["type"], &detail[0]["loc"]),
            (&json!(kind), &json!(loc)),
            "{fields}"
        );
    }
    Ok(())
}

/// Text that is no JSON must be a 422 with a place, never a 400 of the framework or a 500.
#[tokio::test]
async fn malformed_json_is_located() -> Result<()> {
    let server = server().await?;
    for (body, position) in [
        (&b"{\"query\": \"q\", \"documents\": [}"[..], 29),
        (b"{\"query\": NaN}", 10),
        (b"{\"query\": \"\xff\xfe\"}", 11),
        (b"\xef\xbb\xbf{}", 0),
    ] {
        let answer = server.post_bytes(PATH, body.to_vec()).await?;
        assert_eq!(answer.status, 422);
        let detail = violation("json_invalid", &json!([position]), "JSON decode error");
        assert_eq!(answer.body["detail"], json!([detail]), "{}", String::from_utf8_lossy(body));
    }
    for (body, kind) in [
        (r#"{"query":"\ud800","documents":[]}"#, "json_invalid"),
        ("", "missing"),
        ("[]", "model_attributes_type"),
        ("null", "model_attributes_type"),
    ] {
        let answer = server.post_bytes(PATH, body).await?;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.body["detail"][0]["type"], kind, "{body}");
    }
    Ok(())
}

/// The SDKs and older clients send these, and the hosted API takes them.
#[tokio::test]
async fn what_only_looks_wrong_is_taken() -> Result<()> {
    let server = server().await?;
    for body in [
        r#"{"query":"q","documents":["d"],"top_n":1.0,"model":null,"latency":null}"#,
        r#"{"query":1,"query":"q","documents":["d"]}"#,
        r#"{"query":"q","documents":["d"],"nested":{"deep":[1.5e300,true]}}"#,
        "\n\t {\"query\":\"q\",\"documents\":[\"\\u0000\"]} ",
        r#"{"query":"q","documents":["d"],"top_n":99999999999999999999}"#,
    ] {
        let answer = server.post_bytes(PATH, body).await?;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    }
    Ok(())
}

/// Limits, existence and routes answer in plain sentences, in the documented order.
#[tokio::test]
async fn refusals_are_sentences_in_the_right_order() -> Result<()> {
    let server = server().await?;
    let large = "x".repeat(4_999_850);
    let body = json!({"model": "x", "query": "", "documents": [large, ""]});
    let answer = server.post(PATH, &body).await?;
    let text = "query and documents count 5000150 bytes (per document: 150 + query + document); \
                the limit is 5000000";
    assert_plain(&answer, 400, text);

    let body = json!({"model": "x", "query": "", "documents": [large], "top_n": 1});
    let answer = server.post(PATH, &body).await?;
    assert_plain(&answer, 404, "model `x` not found; available: m, alias");

    for path in ["/v1/models/embed", "/", "/v1", "/v1/v1/models/rerank", "/models/rerank/"] {
        let answer = server.post_bytes(path, "not read").await?;
        assert_plain(&answer, 404, &format!("route `{path}` not found"));
        assert_eq!(answer.headers["cache-control"], "no-cache");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = server.method(method.clone(), PATH).await?;
        assert_plain(&answer, 405, &format!("method `{method}` not allowed for `{PATH}`"));
        assert_eq!(answer.headers["allow"], "POST");
    }
    Ok(())
}
