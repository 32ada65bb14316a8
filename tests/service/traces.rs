//! Traces: what the real binary sends to a collector, and what it does without one.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use reranker_proto::v1::RerankRequest;
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_tests::checkpoint::Checkpoint;
use reranker_tests::process::Process;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

const HTTP_PARENT: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
const GRPC_PARENT: [&str; 2] = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];
const BODY: &str = r#"{"query":"q","documents":["a","b"]}"#;

fn traceparent([trace, span]: [&str; 2]) -> String {
    format!("00-{trace}-{span}-01")
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// A collector that keeps what it gets, over both transports.
struct Collector {
    received: Received,
    http: String,
    grpc: String,
    _servers: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no test panics with it").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive(State(received): State<Received>, body: Bytes) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(body).expect("is OTLP");
    received.0.lock().expect("no test panics with it").push(request);
    ExportTraceServiceResponse::default().encode_to_vec()
}

impl Collector {
    async fn start() -> Result<Self> {
        let received = Received::default();
        let http = TcpListener::bind("127.0.0.1:0").await?;
        let grpc = TcpListener::bind("127.0.0.1:0").await?;
        let (http_base, grpc_base) =
            (format!("http://{}", http.local_addr()?), format!("http://{}", grpc.local_addr()?));
        let router = Router::new().route("/v1/traces", post(receive)).with_state(received.clone());
        let service = TraceServiceServer::new(received.clone());
        let mut servers = JoinSet::new();
        servers.spawn(async { axum::serve(http, router).await.expect("serves") });
        servers.spawn(async {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpIncoming::from(grpc)).await.expect("serves");
        });
        Ok(Self { received, http: http_base, grpc: grpc_base, _servers: servers })
    }

    /// All spans so far, and the name of the service that sent them.
    fn spans(&self) -> (Vec<Span>, Option<String>) {
        let received = self.received.0.lock().expect("no test panics with it");
        let resources: Vec<_> =
            received.iter().flat_map(|request| &request.resource_spans).collect();
        let service = resources
            .iter()
            .find_map(|spans| text(&spans.resource.as_ref()?.attributes, "service.name"));
        let scopes = resources.iter().flat_map(|spans| &spans.scope_spans);
        (scopes.flat_map(|scope| scope.spans.clone()).collect(), service)
    }

    /// Starts a server that exports, sends one request over each protocol, ends it: all its spans.
    async fn traced(&self, variables: &[(&str, &str)]) -> Result<(Vec<Span>, Option<String>)> {
        let checkpoint = Checkpoint::new(1);
        let model = checkpoint.model("m");
        let process = serve(&["--model", &model], variables).await?;
        ask(&process).await?;
        process.terminate()?;
        let (status, log) = tokio::task::spawn_blocking(move || process.end()).await??;
        assert!(status.success(), "{status}: {log}");
        Ok(self.spans())
    }
}

/// Starts the binary off the async threads, which the collector needs.
async fn serve(flags: &[&str], variables: &[(&str, &str)]) -> Result<Process> {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let variables: Vec<(String, String)> =
        variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let started = tokio::task::spawn_blocking(move || {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Process::serve(&flags, &variables)?.ready()
    });
    started.await?
}

/// One request over HTTP and one over gRPC, each within a trace; the ids that came back.
async fn ask(process: &Process) -> Result<[String; 2]> {
    let response = reqwest::Client::new()
        .post(format!("{}/v1/models/rerank", process.http))
        .header("traceparent", traceparent(HTTP_PARENT))
        .header("tracestate", "vendor=1")
        .header("x-request-id", "http-1")
        .body(BODY)
        .send()
        .await?;
    assert_eq!(response.status(), 200);
    let http = response.headers()["x-request-id"].to_str()?.to_owned();
    let documents = vec!["a".to_owned(), "b".to_owned()];
    let mut request =
        Request::new(RerankRequest { query: "q".into(), documents, ..RerankRequest::default() });
    request.metadata_mut().insert("traceparent", traceparent(GRPC_PARENT).parse()?);
    request.metadata_mut().insert("x-request-id", "grpc-1".parse()?);
    let response = RerankerClient::connect(process.grpc.clone()).await?.rerank(request).await?;
    let grpc = response.metadata().get("x-request-id").context("an id")?.to_str()?.to_owned();
    Ok([http, grpc])
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match attribute(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match attribute(attributes, key)? {
        Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let names = || spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>().join(", ");
    spans
        .iter()
        .find(|span| span.name == name)
        .with_context(|| format!("no `{name}` in {}", names()))
}

#[track_caller]
fn assert_continues(span: &Span, [trace, parent]: [&str; 2]) {
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (trace.into(), parent.into()));
    assert_eq!(span.kind(), SpanKind::Server);
}

/// A request that is slow somewhere between browser and model could not be followed to the place.
#[tokio::test]
async fn requests_join_the_traces_of_their_callers() -> Result<()> {
    for protocol in ["http/protobuf", "grpc"] {
        let collector = Collector::start().await?;
        let endpoint = if protocol == "grpc" { &collector.grpc } else { &collector.http };
        let (spans, service) = collector
            .traced(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ])
            .await?;
        assert_eq!(service.as_deref(), Some("reranker"), "{protocol}");

        let http = named(&spans, "POST /v1/models/rerank")?;
        assert_continues(http, HTTP_PARENT);
        assert_eq!(http.trace_state, "vendor=1");
        let of = |key| text(&http.attributes, key);
        assert_eq!(of("http.request.method").as_deref(), Some("POST"));
        assert_eq!(of("http.route").as_deref(), Some("/v1/models/rerank"));
        assert_eq!(of("request_id").as_deref(), Some("http-1"));
        assert_eq!(number(&http.attributes, "http.response.status_code"), Some(200));
        let parse = named(&spans, "parse")?;
        assert_eq!((&parse.trace_id, &parse.parent_span_id), (&http.trace_id, &http.span_id));

        let grpc = named(&spans, "reranker.v1.Reranker/Rerank")?;
        assert_continues(grpc, GRPC_PARENT);
        let of = |key| text(&grpc.attributes, key);
        assert_eq!(of("rpc.system").as_deref(), Some("grpc"));
        assert_eq!(of("rpc.service").as_deref(), Some("reranker.v1.Reranker"));
        assert_eq!(of("rpc.method").as_deref(), Some("Rerank"));
        assert_eq!(number(&grpc.attributes, "rpc.grpc.status_code"), Some(0));
    }
    Ok(())
}

/// Why a request waited is in the batch it rode in, which belongs to no single request.
#[tokio::test]
async fn requests_are_linked_with_their_batches() -> Result<()> {
    let collector = Collector::start().await?;
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str())];
    let (spans, _) = collector.traced(&endpoint).await?;
    for (parent, server) in
        [(HTTP_PARENT, "POST /v1/models/rerank"), (GRPC_PARENT, "reranker.v1.Reranker/Rerank")]
    {
        let of_trace: Vec<&Span> =
            spans.iter().filter(|span| hex(&span.trace_id) == parent[0]).collect();
        for name in ["tokenize", "queue"] {
            let child = of_trace.iter().find(|span| span.name == name);
            let child = child.with_context(|| format!("no `{name}` under `{server}`"))?;
            assert!(of_trace.iter().any(|span| span.span_id == child.parent_span_id));
        }
        let batch = spans.iter().filter(|span| span.name == "batch").find(|batch| {
            let mut links = batch.links.iter();
            links.any(|link| of_trace.iter().any(|span| span.span_id == link.span_id))
        });
        let batch = batch.with_context(|| format!("no batch is linked with `{server}`"))?;
        for field in ["tokens", "documents", "requests"] {
            assert!(number(&batch.attributes, field) > Some(0), "{field}: {batch:?}");
        }
    }
    Ok(())
}

/// Operators name and sample services by these variables and nothing else.
#[tokio::test]
async fn the_standard_variables_are_honoured() -> Result<()> {
    let collector = Collector::start().await?;
    let endpoint = format!("{}/v1/traces", collector.http);
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str());
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off")] {
        let (spans, _) = collector.traced(&[endpoint, off]).await?;
        assert!(spans.is_empty(), "{off:?}: {spans:?}");
    }
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment=test");
    let (spans, service) = collector.traced(&[endpoint, attributes]).await?;
    assert!(!spans.is_empty());
    assert_eq!(service.as_deref(), Some("other"));
    let collector = Collector::start().await?;
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http.as_str())];
    let named = ("OTEL_SERVICE_NAME", "named");
    let (_, service) = collector.traced(&[endpoint[0], attributes, named]).await?;
    assert_eq!(service.as_deref(), Some("named"));
    Ok(())
}

/// A collector's outage would become the service's: requests that wait, a log that fills the disk, a
/// rollout that hangs.
#[tokio::test]
async fn an_unreachable_collector_costs_nothing() -> Result<()> {
    // One refuses connections, one takes them and never answers, one answers 404.
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let foreign = TcpListener::bind("127.0.0.1:0").await?;
    let addresses = [silent.local_addr()?, foreign.local_addr()?];
    let mut servers = JoinSet::new();
    servers.spawn(async { axum::serve(foreign, Router::new()).await.expect("serves") });
    for (address, protocol, lines) in [
        (closed, "http/protobuf", 0..=2),
        (closed, "grpc", 0..=2),
        (addresses[0], "http/protobuf", 0..=2),
        (addresses[1], "http/protobuf", 1..=1),
    ] {
        let checkpoint = Checkpoint::new(1);
        let model = checkpoint.model("m");
        let flags = ["--model", &model, "--shutdown-grace-seconds", "1"];
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            // Often enough that a line each would be many.
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
        ];
        let process = serve(&flags, &variables).await?;
        for _ in 0..50 {
            ask(&process).await?;
        }
        process.terminate()?;
        // Ends by itself, and cleanly: the last traces are not worth the grace.
        let (status, log) = tokio::task::spawn_blocking(move || process.end()).await??;
        assert!(status.success(), "{protocol}: {status}: {log}");
        let about = log.lines().filter(|line| line.contains("traces")).count();
        assert!(lines.contains(&about), "{address} {protocol}: {log}");
    }
    Ok(())
}

/// Support asks for the id in the answer, and finds the request's lines and its trace by it.
#[tokio::test]
async fn log_lines_carry_the_ids() -> Result<()> {
    let checkpoint = Checkpoint::new(1);
    let model = checkpoint.model("m");
    let process = serve(&["--model", &model], &[("RUST_LOG", "reranker=debug")]).await?;
    assert_eq!(ask(&process).await?, ["http-1", "grpc-1"]);
    let refused = reqwest::Client::new()
        .post(format!("{}/v1/models/rerank", process.http))
        .header("x-request-id", "not a token")
        .body("[]")
        .send()
        .await?;
    let fresh = refused.headers()["x-request-id"].to_str()?.to_owned();
    assert_eq!(fresh.len(), 36, "{fresh}");
    let entries = tokio::task::spawn_blocking(move || -> Result<Vec<serde_json::Value>> {
        ["answered", "answered", "refused"].iter().map(|line| process.wait_for(line)).collect()
    });
    let entries = entries.await??;
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| {
            let span = &entry["spans"][0];
            [&span["request_id"], &span["trace_id"], &entry["code"]].map(|id| id.as_str())
        })
        .collect();
    let expected = [
        [Some("http-1"), Some(HTTP_PARENT[0]), Some("ok")],
        [Some("grpc-1"), Some(GRPC_PARENT[0]), Some("ok")],
        [Some(&*fresh), None, Some("invalid_request")],
    ];
    assert_eq!(ids, expected);
    Ok(())
}

/// Traces that silently go nowhere are found missing when they are needed.
#[test]
fn a_protocol_that_is_not_spoken_is_refused() {
    let output = reranker_tests::process::command(["serve"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("OTEL_EXPORTER_OTLP_PROTOCOL `http/json`"), "{text}");
}
