//! What is asked for: the same requests in the same order, by number.

use super::KEY;
use anyhow::Result;
use reranker_proto::v1::{LatencyMode, RerankRequest};
use serde_json::{Value, json};
use tonic::Code;

/// What a client asks for, and what it may be answered beside success.
pub(super) struct Job {
    pub(super) body: Value,
    pub(super) message: RerankRequest,
    pub(super) key: &'static str,
    /// Seconds that the client says it waits.
    timeout: Option<&'static str>,
    succeeds: bool,
    refusal: Option<(u16, Code, &'static str)>,
}

impl Job {
    /// The job of this number: one half good, the rest wrong in every way.
    pub(super) fn new(number: usize) -> Self {
        let documents = vec![format!("document {number}"), "another".to_owned()];
        let body = json!({"query": "which one", "documents": documents});
        let message =
            RerankRequest { query: "which one".into(), documents, ..RerankRequest::default() };
        let mut job =
            Self { body, message, key: KEY, timeout: None, succeeds: true, refusal: None };
        match number % 20 {
            10 => {
                job.body["top_n"] = json!(0);
                job.message.top_n = Some(0);
                job.refused(422, Code::InvalidArgument, "invalid_request");
            }
            11 => {
                job.body["model"] = json!("nope");
                job.message.model = "nope".into();
                job.refused(404, Code::NotFound, "not_found");
            }
            12 => {
                let many = vec!["x".to_owned(); 150];
                job.body["documents"] = json!(many);
                job.message.documents = many;
                job.refused(400, Code::InvalidArgument, "limit_exceeded");
            }
            13 => {
                let long = "x".repeat(30_000);
                job.body["query"] = json!(long);
                job.message.query = long;
                job.refused(413, Code::OutOfRange, "payload_too_large");
            }
            14 => {
                job.key = "Bearer bad";
                job.refused(401, Code::Unauthenticated, "unauthenticated");
            }
            15 => {
                job.body["latency"] = json!("slow");
                job.message.latency = LatencyMode::Slow.into();
                job.refused(429, Code::ResourceExhausted, "overloaded");
                // The first of a minute.
                job.succeeds = true;
            }
            _ => {}
        }
        job
    }

    fn refused(&mut self, http: u16, grpc: Code, word: &'static str) {
        self.succeeds = false;
        self.refusal = Some((http, grpc, word));
    }

    /// The deadline passes at once; over gRPC the client's own library would not even send it.
    pub(super) fn hurried(mut self) -> Self {
        self.timeout = Some("0.000001");
        self.refused(504, Code::DeadlineExceeded, "deadline_exceeded");
        self
    }

    pub(super) fn headers(&self) -> Vec<(&'static str, &'static str)> {
        let timeout = self.timeout.map(|timeout| ("x-stainless-timeout", timeout));
        std::iter::once(("authorization", self.key)).chain(timeout).collect()
    }

    /// The word that metrics have for how it ended.
    pub(super) fn word(&self, is_ok: bool, is: impl Fn(u16, Code) -> bool) -> Result<&'static str> {
        match self.refusal {
            _ if is_ok && self.succeeds => Ok("ok"),
            Some((http, grpc, word)) if is(http, grpc) => Ok(word),
            expected => anyhow::bail!("ok: {is_ok}, expected {expected:?} for {}", self.body),
        }
    }
}
