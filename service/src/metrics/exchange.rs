//! One request from its head to the end of its answer: counted and logged once, however it ends.
//!
//! The layer of each protocol opens an [`Exchange`], runs the handler in it and says how it ended;
//! an exchange that is dropped before was cancelled. What only the use-case finds out, the model and
//! the class, it notes with [`note_model`] and [`note_class`] while it runs in the exchange.

use super::labels::{DurationLabels, ProtocolLabel, ReasonLabels, RequestLabels};
use super::{Protocol, UNKNOWN, class};
use crate::app::App;
use crate::error::{Error, ErrorCode};
use crate::rerank::Latency;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

tokio::task_local! {
    static NOTES: Arc<Mutex<Notes>>;
}

#[derive(Debug, Default)]
struct Notes {
    model: Option<String>,
    class: Option<Latency>,
    error: Option<Outcome>,
}

/// Tells the running exchange which model answers it. Only names of loaded models: a label is kept
/// for ever.
pub(crate) fn note_model(name: &str) {
    note(|notes| notes.model = Some(name.to_owned()));
}

/// Tells the running exchange which class it runs in.
pub(crate) fn note_class(latency: Latency) {
    note(|notes| notes.class = Some(latency));
}

/// Tells the running exchange with what error its stream ends; a trailer has no more than a number.
pub(crate) fn note_error(error: &Error) {
    note(|notes| _ = notes.error.get_or_insert(error.into()));
}

/// Tells the running exchange that its caller went away in the middle of the request, whatever the
/// handler makes of the half that it has.
pub(crate) fn note_cancelled() {
    note(|notes| notes.error = Some(Outcome::Cancelled));
}

fn note(change: impl FnOnce(&mut Notes)) {
    // Outside an exchange, in a test or another program, nobody wants to know.
    let _ =
        NOTES.try_with(|notes| change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Runs a part of the handler that goes on after it, such as a stream's, in the same exchange.
pub(crate) fn carried<F: Future>(part: F) -> impl Future<Output = F::Output> {
    let notes = NOTES.try_with(Arc::clone).unwrap_or_default();
    NOTES.scope(notes, part)
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With what it asked for.
    Ok,
    /// With an error; a reason if the request itself was in order.
    Failed(ErrorCode, Option<&'static str>),
    /// Nobody waited for the answer.
    Cancelled,
}

impl Outcome {
    /// Of an answer that says no more than its gRPC status.
    pub(crate) fn of_grpc(status: i32) -> Self {
        match status {
            0 => Self::Ok,
            1 => Self::Cancelled,
            _ => Self::of_code(|code| code.wire().grpc == status, ErrorCode::Internal),
        }
    }

    /// Of an answer that says no more than its HTTP status.
    pub(crate) fn of_http(status: u16) -> Self {
        match status {
            ..400 => Self::Ok,
            400..500 => Self::of_code(|code| code.wire().http == status, ErrorCode::InvalidRequest),
            500.. => Self::of_code(|code| code.wire().http == status, ErrorCode::Internal),
        }
    }

    fn of_code(is: impl Fn(&ErrorCode) -> bool, otherwise: ErrorCode) -> Self {
        let code = ErrorCode::ALL.into_iter().find(is).unwrap_or(otherwise);
        Self::Failed(code, code.refusal())
    }

    /// The value of the label `code`.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(code, _) => code.word(),
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<&Error> for Outcome {
    fn from(error: &Error) -> Self {
        Self::Failed(error.code(), error.refusal())
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    app: App,
    protocol: Protocol,
    route: Cow<'static, str>,
    started: Instant,
    /// When the caller stops waiting, which is also when its client resets the call.
    timeout: Option<Duration>,
    notes: Arc<Mutex<Notes>>,
    ended: bool,
}

impl Exchange {
    /// Opens one for a route that exists; none: for any other.
    pub(crate) fn begin(
        app: App,
        protocol: Protocol,
        route: Option<String>,
        timeout: Option<Duration>,
    ) -> Self {
        let route = route.map_or(Cow::Borrowed(UNKNOWN), Cow::Owned);
        let (started, notes) = (Instant::now(), Arc::default());
        Self { app, protocol, route, started, timeout, notes, ended: false }
    }

    /// Runs a handler so that it can note what it finds out.
    pub(crate) fn run<F: Future>(&self, handler: F) -> impl Future<Output = F::Output> + use<F> {
        NOTES.scope(Arc::clone(&self.notes), handler)
    }

    /// As [`run`](Self::run), for what is polled after the handler: the body of an answer.
    pub(crate) fn enter<T>(&self, step: impl FnOnce() -> T) -> T {
        NOTES.sync_scope(Arc::clone(&self.notes), step)
    }

    /// Counts the request and logs how it ended, in the current span.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.count(outcome);
    }

    fn count(&mut self, outcome: Outcome) {
        self.ended = true;
        let elapsed = self.started.elapsed();
        let protocol = self.protocol.name();
        let (model, class, error) = {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            (notes.model.take(), notes.class.map_or(UNKNOWN, class), notes.error.take())
        };
        let outcome = match outcome {
            Outcome::Failed(..) => error.unwrap_or(outcome),
            Outcome::Ok | Outcome::Cancelled => outcome,
        };
        let model = model.map_or(Cow::Borrowed(UNKNOWN), Cow::Owned);
        let code = outcome.word();
        let metrics = self.app.metrics();
        let route = std::mem::take(&mut self.route);
        match outcome {
            Outcome::Failed(_, Some(reason)) => {
                metrics.rejected.get_or_create(&ReasonLabels { protocol, reason }).inc();
            }
            Outcome::Cancelled => {
                metrics.cancelled.get_or_create(&ProtocolLabel { protocol }).inc();
            }
            Outcome::Ok | Outcome::Failed(..) => {}
        }
        let labels = DurationLabels { protocol, route: route.clone(), class, code };
        metrics.request_duration.get_or_create(&labels).observe(elapsed.as_secs_f64());
        // Last, so that a scrape that has the request has the rest of it too.
        let labels = RequestLabels { protocol, route, model, class, code };
        metrics.requests.get_or_create(&labels).inc();
        log(outcome, elapsed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            let late = self.timeout.is_some_and(|timeout| self.started.elapsed() >= timeout);
            let code = ErrorCode::DeadlineExceeded;
            let failed = Outcome::Failed(code, code.refusal());
            self.count(if late { failed } else { Outcome::Cancelled });
        }
    }
}

/// One line a request. What is the service's state is a warning, what is the caller's doing is for
/// information; an internal error has been logged with its cause where it became an answer.
fn log(outcome: Outcome, elapsed: Duration) {
    let (code, seconds) = (outcome.word(), elapsed.as_secs_f64());
    match outcome {
        Outcome::Ok | Outcome::Failed(ErrorCode::Internal, _) => {
            tracing::debug!(code, seconds, "answered");
        }
        Outcome::Failed(
            ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::DeadlineExceeded,
            reason,
        ) => tracing::warn!(code, reason, seconds, "refused"),
        Outcome::Failed(..) => tracing::info!(code, seconds, "refused"),
        Outcome::Cancelled => tracing::info!(code, seconds, "cancelled by the caller"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A code without a word of its own would be counted as another, and alerts look at the wrong one.
    #[test]
    fn every_code_is_found_again_by_its_word_and_numbers() {
        for code in ErrorCode::ALL {
            let same = ErrorCode::ALL.iter().filter(|other| other.word() == code.word());
            assert_eq!(same.count(), 1, "{}", code.word());
            let wire = code.wire();
            for (outcome, number) in [
                (Outcome::of_grpc(wire.grpc), i64::from(wire.grpc)),
                (Outcome::of_http(wire.http), i64::from(wire.http)),
            ] {
                let Outcome::Failed(found, _) = outcome else { panic!("{number} is {outcome:?}") };
                assert!([found.wire().grpc.into(), found.wire().http.into()].contains(&number));
            }
        }
        assert_eq!(Outcome::of_grpc(2), Outcome::Failed(ErrorCode::Internal, None));
        assert_eq!(Outcome::of_http(418), Outcome::Failed(ErrorCode::InvalidRequest, None));
        assert_eq!(Outcome::of_http(204), Outcome::Ok);
    }
}
