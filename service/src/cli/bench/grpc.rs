//! The client side of `reranker.v1`.

use super::payload::{Class, Payload};
use super::statistics::Outcome;
use super::{ApiKey, Options, chain};
use reranker_proto::v1::reranker_client::RerankerClient;
use reranker_proto::v1::{LatencyMode, RerankRequest};
use std::error::Error;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, TimeoutExpired};

/// Ready-made messages and the connections they take in turn.
#[derive(Debug)]
pub(super) struct Grpc {
    clients: Vec<RerankerClient<Channel>>,
    requests: Vec<RerankRequest>,
    authorization: Option<AsciiMetadataValue>,
    timeout: std::time::Duration,
}

impl Grpc {
    /// Connects on first use. Must be called on the runtime.
    ///
    /// # Errors
    /// A sentence about what is wrong with the options.
    pub(super) fn new(options: &Options, payloads: Vec<Payload>) -> Result<Self, String> {
        let endpoint = endpoint(options).map_err(|error| chain(&error))?;
        let client =
            || RerankerClient::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX);
        let authorization = options.api_key.as_ref().map(|ApiKey(key)| {
            AsciiMetadataValue::try_from(format!("Bearer {key}"))
                .map_err(|_| "the API key has characters that no header can carry")
        });
        Ok(Self {
            clients: std::iter::repeat_with(client).take(options.connections).collect(),
            requests: payloads.into_iter().map(message).collect(),
            authorization: authorization.transpose()?,
            timeout: options.plan.timeout,
        })
    }

    /// Sends one of the requests, in turn.
    pub(super) async fn send(&self, index: usize) -> Outcome {
        let mut client = self.clients[index % self.clients.len()].clone();
        let message = self.requests[index % self.requests.len()].clone();
        let documents = message.documents.len() as u64;
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        match client.rerank(request).await {
            Ok(answer) => match u64::try_from(answer.into_inner().total_tokens) {
                Ok(tokens) => Outcome::Answered { documents, tokens },
                Err(_) => Outcome::Failed("an answer with a negative `total_tokens`".to_owned()),
            },
            Err(status) => outcome(&status),
        }
    }
}

fn endpoint(options: &Options) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(options.url.clone())?
        .user_agent(super::USER_AGENT)?
        .buffer_size(options.plan.max_outstanding);
    if !options.url.starts_with("https:") {
        return Ok(endpoint);
    }
    let tls = ClientTlsConfig::new();
    endpoint.tls_config(match &options.tls_ca {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    })
}

fn message(payload: Payload) -> RerankRequest {
    let Payload { model, query, documents, top_n, latency } = payload;
    let latency = match latency {
        None => LatencyMode::Unspecified,
        Some(Class::Fast) => LatencyMode::Fast,
        Some(Class::Slow) => LatencyMode::Slow,
    };
    RerankRequest {
        model: model.unwrap_or_default(),
        query,
        documents,
        top_n: top_n.map(i64::from),
        latency: latency.into(),
    }
}

/// A status that came over the wire has no source; what failed on this side has one.
fn outcome(status: &Status) -> Outcome {
    let Some(source) = status.source() else {
        return Outcome::Refused(name(status.code()).to_owned());
    };
    let mut causes = std::iter::successors(Some(source), |&cause| cause.source());
    if causes.any(<dyn Error>::is::<TimeoutExpired>) {
        Outcome::TimedOut
    } else {
        Outcome::Failed(chain(source))
    }
}

/// A code in the words of the protocol.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
