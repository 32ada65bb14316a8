use super::*;
use axum::body::{Body, to_bytes};
use axum::routing::post;
use reranker_engine::Bound;
use std::time::Duration;
use tower::ServiceExt;

async fn broken() -> Response {
    panic!("a bug")
}

async fn call(request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
    let overloaded = || async {
        Error::Overloaded { bound: Bound::Memory, retry_after: Duration::from_millis(2_500) }
    };
    let routes = Router::new().route("/broken", post(broken)).route("/busy", post(overloaded));
    let app = App::new(Vec::new());
    let guard = middleware::from_fn_with_state(Guard::open(), guarded);
    let routes = versioned(routes).route_layer(guard);
    let router = enveloped(routes, app.clone(), Lingering::default(), &[]);
    let router = router.with_state(app);
    let response = router.oneshot(request).await.expect("a router answers");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("the body is in memory");
    (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
}

fn post_to(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).expect("is a request")
}

/// One request that hits a bug would take the server, and every other request, with it; and the
/// clients would repeat it twice more.
#[tokio::test]
async fn a_panicking_handler_answers_500() {
    let (status, headers, body) = call(post_to("/v1/broken")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(headers["x-should-retry"], "false");
    assert!(headers.contains_key("x-request-id"));
    assert_eq!(body, r#"{"detail":"internal error","message":"internal error"}"#);
}

/// Without whole seconds in the header the clients come back far too early.
#[tokio::test]
async fn overload_says_when_to_come_back() {
    let (status, headers, body) = call(post_to("/busy")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers["retry-after"], "3");
    assert!(!headers.contains_key("x-should-retry"));
    let text = "overloaded: the queue is full; retry in 3 s";
    assert_eq!(body, json!({"detail": text, "message": text}).to_string());
}

/// Clients of the hosted API read `detail` and `message` from every error.
#[tokio::test]
async fn unknown_routes_and_methods_answer_in_json() {
    let (status, headers, body) = call(post_to("/v1/nothing")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "no-cache");
    assert!(body.contains("route `/v1/nothing` not found"), "{body}");

    let get = Request::get("/busy").body(Body::empty()).expect("is a request");
    let (status, headers, body) = call(get).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "POST");
    assert!(!headers.contains_key("cache-control"));
    assert!(body.contains("method `GET` not allowed for `/busy`"), "{body}");
}
