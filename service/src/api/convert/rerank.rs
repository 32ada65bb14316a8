//! Rerank requests and answers.

use crate::app::Admission;
use crate::error::{Error, Location, Violation};
use crate::rerank::{
    self, Latency, RerankRequest, RerankResponse, RerankResult, StreamEvent, StreamHeader,
    StreamSummary,
};
use reranker_engine::Cuts;
use reranker_proto::v1;
use std::num::NonZeroUsize;

/// The fields of a rerank request in either protocol.
pub(crate) struct RerankFields {
    pub(crate) model: Option<String>,
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
    pub(crate) top_n: Option<NonZeroUsize>,
    pub(crate) latency: Option<Latency>,
    pub(crate) cuts: Cuts,
}

impl RerankFields {
    /// Checks the limits.
    pub(crate) fn into_request(self, admission: &Admission) -> Result<RerankRequest, Error> {
        let Self { model, query, documents, top_n, latency, cuts } = self;
        let &Admission { received, deadline, limits, ref principal, .. } = admission;
        limits.check(documents.len(), rerank::total_bytes(&query, &documents))?;
        Ok(RerankRequest {
            model,
            query,
            documents: documents.into(),
            top_n,
            latency,
            cuts,
            received,
            deadline,
            principal: principal.clone(),
        })
    }
}

/// `top_n` is at least 1; more than there are documents means all.
pub(crate) fn top_n(value: i64) -> Result<NonZeroUsize, Violation> {
    // A number past `usize` is past the number of documents as well.
    let value = usize::try_from(value.max(0)).unwrap_or(usize::MAX);
    NonZeroUsize::new(value).ok_or_else(|| Violation {
        kind: "greater_than_equal",
        location: vec![Location::Field("top_n")],
        message: "Input should be greater than or equal to 1",
    })
}

/// What a wrong class of work is told.
pub(crate) fn latency_violation() -> Violation {
    Violation {
        kind: "literal_error",
        location: vec![Location::Field("latency")],
        message: "Input should be 'fast' or 'slow'",
    }
}

impl TryFrom<v1::RerankRequest> for RerankFields {
    type Error = Error;

    fn try_from(request: v1::RerankRequest) -> Result<Self, Error> {
        let v1::RerankRequest { model, query, documents, top_n, latency } = request;
        let mut violations = Vec::new();
        let top_n = top_n.and_then(|value| {
            self::top_n(value).map_err(|violation| violations.push(violation)).ok()
        });
        let latency = latency_mode(latency).unwrap_or_else(|violation| {
            violations.push(violation);
            None
        });
        if violations.is_empty() {
            let model = Some(model).filter(|model| !model.is_empty());
            Ok(Self { model, query, documents, top_n, latency, cuts: Cuts::default() })
        } else {
            Err(Error::InvalidRequest(violations))
        }
    }
}

impl From<RerankResponse> for v1::RerankResponse {
    fn from(response: RerankResponse) -> Self {
        let RerankResponse {
            model,
            results,
            total_bytes,
            total_tokens,
            latency,
            e2e,
            queue: _,
            inference,
        } = response;
        Self {
            results: results.iter().map(Into::into).collect(),
            total_bytes: count(total_bytes),
            total_tokens: count(total_tokens),
            actual_latency_mode: actual_latency_mode(latency),
            e2e_latency: e2e.as_secs_f64(),
            inference_latency: inference.as_secs_f64(),
            model,
        }
    }
}

impl From<&RerankResult> for v1::RerankResult {
    fn from(result: &RerankResult) -> Self {
        Self {
            index: count(result.index as u64),
            relevance_score: result.relevance_score,
            truncated: result.truncated,
        }
    }
}

fn actual_latency_mode(latency: Latency) -> i32 {
    match latency {
        Latency::Fast => v1::LatencyMode::Fast.into(),
        Latency::Slow => v1::LatencyMode::Slow.into(),
    }
}

/// What a stream begins with.
pub(crate) fn stream_header(
    header: v1::RerankStreamHeader,
    admission: &Admission,
) -> Result<StreamHeader, Error> {
    let v1::RerankStreamHeader { model, query, latency } = header;
    let latency = latency_mode(latency)
        .map_err(|violation| Error::InvalidRequest(vec![violation.inside("header")]))?;
    let &Admission { received, deadline, limits, ref principal, .. } = admission;
    let (patience, principal) = (limits.patience, principal.clone());
    let model = Some(model).filter(|model| !model.is_empty());
    Ok(StreamHeader { model, query, latency, received, deadline, patience, principal })
}

/// What a stream must begin with, and must not go on with.
pub(crate) fn header_violation() -> Violation {
    Violation {
        kind: "value_error",
        location: vec![Location::Field("header")],
        message: "The first message of a stream, and only the first, should be a header",
    }
}

fn latency_mode(value: i32) -> Result<Option<Latency>, Violation> {
    match v1::LatencyMode::try_from(value) {
        Ok(v1::LatencyMode::Unspecified) => Ok(None),
        Ok(v1::LatencyMode::Fast) => Ok(Some(Latency::Fast)),
        Ok(v1::LatencyMode::Slow) => Ok(Some(Latency::Slow)),
        Err(_) => Err(latency_violation()),
    }
}

impl From<StreamEvent> for v1::RerankStreamResponse {
    fn from(event: StreamEvent) -> Self {
        use v1::rerank_stream_response::Message;
        let message = match event {
            StreamEvent::Scores(results) => Message::Scores(v1::RerankStreamScores {
                results: results.iter().map(Into::into).collect(),
            }),
            StreamEvent::Summary(summary) => Message::Summary(summary.into()),
        };
        Self { message: Some(message) }
    }
}

impl From<StreamSummary> for v1::RerankStreamSummary {
    fn from(summary: StreamSummary) -> Self {
        let StreamSummary {
            model,
            documents,
            total_bytes,
            total_tokens,
            latency,
            e2e,
            queue: _,
            inference,
        } = summary;
        Self {
            documents: count(documents),
            total_bytes: count(total_bytes),
            total_tokens: count(total_tokens),
            actual_latency_mode: actual_latency_mode(latency),
            e2e_latency: e2e.as_secs_f64(),
            inference_latency: inference.as_secs_f64(),
            model,
        }
    }
}

/// A count as messages have it: none comes near the end of `i64`.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::App;
    use crate::auth::Principal;

    fn request(document_bytes: usize) -> Result<RerankRequest, Error> {
        let fields = RerankFields {
            model: None,
            query: String::new(),
            documents: vec!["x".repeat(document_bytes)],
            top_n: None,
            latency: None,
            cuts: Cuts::default(),
        };
        let app = App::new(Vec::new());
        app.open();
        fields.into_request(&app.admit(None, Principal::anonymous())?)
    }

    /// One byte off, and a request that the hosted API took is refused, or memory is not bounded.
    #[test]
    fn the_byte_limit_is_exact() {
        assert!(request(4_999_850).is_ok());
        let error = request(4_999_851).expect_err("is over the limit");
        assert_eq!(
            error.to_string(),
            "query and documents count 5000001 bytes (per document: 150 + query + document); \
             the limit is 5000000"
        );
    }

    /// `top_n: 0` would look like "nothing is relevant".
    #[test]
    fn top_n_is_at_least_one() {
        assert_eq!(top_n(1).map(NonZeroUsize::get), Ok(1));
        assert_eq!(top_n(i64::MAX).map(NonZeroUsize::get), Ok(i64::MAX as usize));
        for value in [0, -1, i64::MIN] {
            assert!(top_n(value).is_err(), "{value}");
        }
    }
}
