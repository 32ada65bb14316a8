//! One admitted request: documents go in, scores come out as batches finish.

use super::{Cuts, Engine};
use crate::ScoreError;
use crate::model::{EncodedDocument, EncodedPrefix, ModelSpec};
use crate::schedule::{self, Latency, Score};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::{Duration, Instant};

/// Token ids of a query in its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedQuery(EncodedPrefix);

/// Token ids of some documents behind one query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedDocuments {
    documents: Vec<EncodedDocument>,
    /// What they were thought to be before they were encoded.
    estimate: usize,
}

/// Token ids of one query and all its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRequest {
    query: EncodedQuery,
    documents: EncodedDocuments,
}

impl EncodedRequest {
    /// Tokens of all pairs, each counted whole with its prompt.
    pub fn tokens(&self) -> usize {
        let prefix = self.query.0.ids.len();
        self.documents.documents.iter().map(|document| prefix + document.ids.len()).sum()
    }

    /// The ids of one pair in its prompt, as a model without prefix sharing would read them.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn pair(&self, document: usize) -> Vec<u32> {
        [&self.query.0.ids[..], &self.documents.documents[document].ids].concat()
    }

    /// Tokens that the device computes: the query once, equal documents more than once.
    fn device_tokens(&self) -> usize {
        let documents = &self.documents.documents;
        let prefix = if documents.is_empty() { 0 } else { self.query.0.ids.len() };
        prefix + documents.iter().map(|document| document.ids.len()).sum::<usize>()
    }
}

impl Engine {
    /// About how many tokens a request is, from its bytes alone; takes next to no time.
    pub fn estimate<D: AsRef<str>>(&self, query: &str, documents: &[D], cuts: Cuts) -> usize {
        if documents.is_empty() {
            return 0;
        }
        let tokenizer = &self.0.model.tokenizer;
        let most = cuts.document_tokens.unwrap_or(usize::MAX);
        tokenizer.estimate_query(query, cuts) + tokenizer.estimate_documents(documents, most)
    }

    /// Lets a whole request of about `tokens` in, or refuses it at once.
    ///
    /// Without a class it is fast if its answer is expected within the interactive bound, else slow.
    /// What it holds of the queue is settled by what is pushed into its [`Feed`]. Without `tokens` it
    /// is a stream: its class is decided by what waits now, and its documents need room as they come.
    ///
    /// # Errors
    /// [`ScoreError::Overloaded`] if it would wait too long or the queue has no room,
    /// [`ScoreError::DeadlineExceeded`] if `deadline` has passed, [`ScoreError::Closing`] after
    /// [`close`](Self::close).
    pub fn admit(
        &self,
        latency: Option<Latency>,
        tokens: Option<usize>,
        deadline: Option<Instant>,
    ) -> Result<(Feed, ScoreStream), ScoreError> {
        Ok(self.ends(self.0.scheduler.admit(latency, tokens, deadline)?))
    }

    /// Lets a request of several queries in, of about so many `tokens` each, or refuses it whole; gives
    /// the ends of each query's part.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub fn admit_parts(
        &self,
        latency: Option<Latency>,
        tokens: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Result<Vec<(Feed, ScoreStream)>, ScoreError> {
        let parts = self.0.scheduler.admit_parts(latency, tokens, deadline)?;
        Ok(parts.into_iter().map(|part| self.ends(part)).collect())
    }

    fn ends(&self, (feed, scored): (schedule::Feed, schedule::Scored)) -> (Feed, ScoreStream) {
        (Feed(feed), ScoreStream { spec: self.0.spec.clone(), scored })
    }

    /// Turns a query into tokens.
    ///
    /// Takes time in proportion to the text, as [`encode_documents`](Self::encode_documents) does,
    /// so neither belongs on an async thread.
    pub fn encode_query(&self, query: &str, cuts: Cuts) -> EncodedQuery {
        EncodedQuery(self.0.model.tokenizer.encode_query(query, cuts))
    }

    /// Turns documents into tokens, in parallel on the threads of the pool.
    pub fn encode_documents<D: AsRef<str> + Sync>(
        &self,
        query: &EncodedQuery,
        documents: &[D],
    ) -> EncodedDocuments {
        let tokenizer = &self.0.model.tokenizer;
        let estimate = tokenizer.estimate_documents(documents, query.0.room());
        EncodedDocuments { documents: tokenizer.encode_documents(&query.0, documents), estimate }
    }

    /// Turns a whole request into tokens.
    pub fn encode<D: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[D],
        cuts: Cuts,
    ) -> EncodedRequest {
        let query = self.encode_query(query, cuts);
        let documents = self.encode_documents(&query, documents);
        EncodedRequest { query, documents }
    }

    /// Queues an encoded request, with no deadline and the class that fits; never blocks.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub fn submit(&self, request: EncodedRequest) -> Result<Ticket, ScoreError> {
        let (feed, scores) = self.admit(None, Some(request.device_tokens()), None)?;
        let EncodedRequest { query, documents } = request;
        let count = documents.documents.len();
        feed.push(&query, &documents)?;
        feed.finish();
        Ok(Ticket { scores, documents: count })
    }

    /// Scores documents against a query and waits for it: [`encode`](Self::encode),
    /// [`submit`](Self::submit) and [`Ticket::wait`].
    ///
    /// # Errors
    /// As [`submit`](Self::submit); also [`ScoreError::Failed`] if the forward failed.
    pub fn score<D: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[D],
    ) -> Result<Scores, ScoreError> {
        self.submit(self.encode(query, documents, Cuts::default()))?.wait()
    }
}

/// The way in for the documents of an admitted request. Dropping it unfinished cancels the request.
#[must_use = "dropping an unfinished feed cancels its request"]
pub struct Feed(schedule::Feed);

impl Feed {
    /// Queues documents; never blocks. All of a request's documents are of the same `query`.
    /// Documents with the same tokens as an earlier one are not scored again.
    ///
    /// # Errors
    /// [`ScoreError::Closing`] if the workers have ended; [`ScoreError::Overloaded`] if the queue has
    /// no room for more of a stream now.
    pub fn push(
        &self,
        query: &EncodedQuery,
        documents: &EncodedDocuments,
    ) -> Result<(), ScoreError> {
        let EncodedDocuments { documents, estimate } = documents;
        self.0.push(&query.0.ids, documents, *estimate)
    }

    /// There are no more documents.
    pub fn finish(self) {
        self.0.finish();
    }
}

/// The scores of an admitted request as batches finish. Dropping it cancels what has not run.
#[must_use = "dropping the scores cancels their request"]
pub struct ScoreStream {
    spec: ModelSpec,
    scored: schedule::Scored,
}

impl ScoreStream {
    /// The class that the request runs in.
    pub fn latency(&self) -> Latency {
        self.scored.latency()
    }

    /// The documents that got their scores since the last call, each with its position in the
    /// request; none once the [`Feed`] is finished and all have theirs. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Vec<(usize, PairScore)>, ScoreError>> {
        let scores = self.scored.next().await?;
        let pair = |score: Score| {
            let Score { index, tokens, truncated, logit } = score;
            let pair = PairScore {
                logit,
                relevance_score: self.spec.relevance_score(logit),
                raw_score: f64::from(logit) / self.spec.scale,
                tokens,
                truncated,
            };
            (index, pair)
        };
        Some(scores.map(|scores| scores.into_iter().map(pair).collect()))
    }

    /// Time that devices spent so far on batches that held any of the documents.
    pub fn inference(&self) -> Duration {
        self.scored.inference()
    }

    /// Time from the first documents to the first of those batches; so far, if there was none.
    pub fn queued(&self) -> Duration {
        self.scored.queued()
    }
}

/// A queued request: a future of its scores. Dropping it cancels what has not run yet.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket {
    scores: ScoreStream,
    documents: usize,
}

impl Ticket {
    /// Blocks until the scores are there.
    ///
    /// # Errors
    /// [`ScoreError::Failed`] if the forward failed.
    pub fn wait(self) -> Result<Scores, ScoreError> {
        futures::executor::block_on(self.into_future())
    }

    async fn scores(mut self) -> Result<Scores, ScoreError> {
        let mut pairs = vec![None; self.documents];
        while let Some(scores) = self.scores.next().await {
            for (index, pair) in scores? {
                pairs[index] = Some(pair);
            }
        }
        let pairs = pairs.into_iter().map(|pair| pair.expect("the stream ends with all scores"));
        Ok(Scores { pairs: pairs.collect(), inference: self.scores.inference() })
    }
}

impl IntoFuture for Ticket {
    type Output = Result<Scores, ScoreError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.scores())
    }
}

/// The scores of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// One for every document, in the request's order.
    pub pairs: Vec<PairScore>,
    /// Time the device spent on batches that held any of them.
    pub inference: Duration,
}

/// The score of one document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairScore {
    /// The model's raw output.
    pub logit: f32,
    /// `sigmoid(logit / scale)`, in [0, 1].
    pub relevance_score: f64,
    /// What the relevance is the sigmoid of: `logit / scale`.
    pub raw_score: f64,
    /// Tokens of the pair in its prompt, after any cut.
    pub tokens: usize,
    /// The pair was too long for the model and lost its document's last tokens.
    pub truncated: bool,
}
