//! Text to token ids: the only place that knows the `tokenizers` crate.

use super::prompt::prepare;
use super::spec::ModelSpec;
use crate::LoadError;
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a special token spelled in a query or document means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Plain text: a document cannot write itself a better score.
    #[default]
    Plain,
    /// The token, as the published code reads it.
    Parse,
}

/// Tokens of a caller's own limits; they only shorten what the model's limits leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Most tokens of the query; none: as the model has it.
    pub query_tokens: Option<usize>,
    /// Most tokens of each document; none: as the model has it.
    pub document_tokens: Option<usize>,
}

/// Encodes pairs of one model.
pub(crate) struct PairTokenizer {
    /// Reads user text: added tokens are plain text unless they are to be parsed.
    text: tokenizers::Tokenizer,
    before_query: Vec<u32>,
    between: Vec<u32>,
    after_document: Vec<u32>,
    answer: u32,
    query_chars: usize,
    document_chars: usize,
    max_input_tokens: usize,
    rate: TokensPerByte,
}

/// What all pairs of one query begin with: the frame up to the document, the query in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedPrefix {
    pub(crate) ids: Arc<[u32]>,
    room: usize,
    /// The query was too long and lost its last tokens.
    truncated: bool,
}

/// A document and the frame after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedDocument {
    pub(crate) ids: Arc<[u32]>,
    /// The pair was too long and lost its last document (or query) tokens.
    pub(crate) truncated: bool,
}

impl EncodedPrefix {
    /// Tokens that a document may have behind it.
    pub(crate) fn room(&self) -> usize {
        self.room
    }
}

impl PairTokenizer {
    /// Reads a `tokenizer.json` and checks that it fits the model's prompt.
    ///
    /// `vocab_size` bounds the ids; `max_input_tokens` the tokens of a pair in its prompt.
    pub(crate) fn parse(
        json: &[u8],
        path: &Path,
        spec: &ModelSpec,
        special_tokens: SpecialTokens,
        vocab_size: usize,
        max_input_tokens: usize,
    ) -> Result<Self, LoadError> {
        let invalid = |reason: String| LoadError::Invalid { path: path.to_owned(), reason };
        let unfit = |reason: String| LoadError::Tokenizer { path: path.to_owned(), reason };
        let mut description: Value =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        description["truncation"] = Value::Null;
        description["padding"] = Value::Null;
        let build = |description: &Value| {
            tokenizers::Tokenizer::from_bytes(description.to_string())
                .map_err(|error| invalid(error.to_string()))
        };
        let parsing = build(&description)?;
        let highest = parsing.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if highest >= vocab_size {
            return Err(unfit(format!(
                "it has token id {highest}, config.json a vocabulary of {vocab_size}"
            )));
        }
        let answer = match encode(&parsing, spec.answer_token).as_slice() {
            &[id] => id,
            ids => {
                return Err(unfit(format!(
                    "the answer token `{}` is {} tokens in it, not one",
                    spec.answer_token,
                    ids.len()
                )));
            }
        };
        let [before_query, between, after_document] =
            [spec.prompt.before_query, spec.prompt.between, spec.prompt.after_document]
                .map(|text| encode(&parsing, text));
        let parts = [
            &before_query[..],
            &encode(&parsing, "a"),
            &between,
            &encode(&parsing, "b"),
            &after_document,
        ];
        let whole = format!(
            "{}a{}b{}",
            spec.prompt.before_query, spec.prompt.between, spec.prompt.after_document
        );
        if encode(&parsing, &whole) != parts.concat() {
            return Err(unfit("it joins the prompt's frame with the texts inside".to_owned()));
        }
        for marker in ["<|im_start|>", "<|im_end|>"] {
            if whole.contains(marker) && encode(&parsing, marker).len() != 1 {
                return Err(unfit(format!("it has no token `{marker}`, which the prompt needs")));
            }
        }
        let frame = before_query.len() + between.len() + after_document.len();
        if frame >= max_input_tokens {
            return Err(unfit(format!(
                "the prompt's frame of {frame} tokens leaves no room in {max_input_tokens} positions"
            )));
        }
        let text = match special_tokens {
            SpecialTokens::Parse => parsing,
            SpecialTokens::Plain => {
                description["added_tokens"] = Value::Array(Vec::new());
                build(&description)?
            }
        };
        Ok(Self {
            text,
            before_query,
            between,
            after_document,
            answer,
            query_chars: spec.query_chars,
            document_chars: spec.document_chars,
            max_input_tokens,
            rate: TokensPerByte::new(),
        })
    }

    /// The id of the answer token.
    pub(crate) fn answer(&self) -> u32 {
        self.answer
    }

    /// Encodes what the pairs of one query begin with. A query that alone is over the limit loses its
    /// last tokens; the frame is never cut.
    pub(crate) fn encode_query(&self, query: &str, cuts: Cuts) -> EncodedPrefix {
        let frame = self.before_query.len() + self.between.len() + self.after_document.len();
        let room = self.max_input_tokens - frame;
        let mut query = encode(&self.text, prepare(query, self.query_chars));
        let query_room = cuts.query_tokens.unwrap_or(room).min(room);
        let truncated = query.len() > query_room;
        query.truncate(query_room);
        let room = room - query.len();
        let room = cuts.document_tokens.unwrap_or(room).min(room);
        let ids = [&self.before_query[..], &query, &self.between].concat().into();
        EncodedPrefix { ids, room, truncated }
    }

    /// Encodes documents on all threads of the pool. A pair over the limit loses its document's last
    /// tokens.
    pub(crate) fn encode_documents<D: AsRef<str> + Sync>(
        &self,
        prefix: &EncodedPrefix,
        documents: &[D],
    ) -> Vec<EncodedDocument> {
        let encode_one = |document: &D| {
            let mut ids = encode(&self.text, prepare(document.as_ref(), self.document_chars));
            let whole = ids.len();
            let truncated = prefix.truncated || whole > prefix.room;
            ids.truncate(prefix.room);
            ids.extend_from_slice(&self.after_document);
            (EncodedDocument { ids: ids.into(), truncated }, whole)
        };
        let (encoded, tokens): (Vec<EncodedDocument>, Vec<usize>) =
            documents.par_iter().map(encode_one).unzip();
        let bytes = documents.iter().map(|document| self.read_bytes(document)).sum();
        // As they were before a cut: the rate is that of texts, not of callers' limits.
        self.rate.observe(bytes, tokens.into_iter().sum());
        encoded
    }

    /// About how many tokens [`encode_documents`](Self::encode_documents) will give, each document
    /// cut to `most`, without reading the texts.
    pub(crate) fn estimate_documents<D: AsRef<str>>(&self, documents: &[D], most: usize) -> usize {
        let text = |document| self.rate.tokens(self.read_bytes(document)).min(most);
        documents.iter().map(|document| text(document) + self.after_document.len()).sum()
    }

    /// About how many tokens [`encode_query`](Self::encode_query) will give.
    pub(crate) fn estimate_query(&self, query: &str, cuts: Cuts) -> usize {
        let bytes = query.len().min(self.query_chars * BYTES_PER_CHAR);
        let text = self.rate.tokens(bytes).min(cuts.query_tokens.unwrap_or(usize::MAX));
        self.before_query.len() + text + self.between.len()
    }

    /// Bytes of a document that are read; a guess for those that are cut.
    fn read_bytes<D: AsRef<str>>(&self, document: &D) -> usize {
        document.as_ref().len().min(self.document_chars * BYTES_PER_CHAR)
    }
}

/// A guess for texts that are cut: between Latin (1) and Chinese (3).
const BYTES_PER_CHAR: usize = 2;

/// Tokens for each byte of text, learned from what is encoded.
struct TokensPerByte(AtomicU64);

impl TokensPerByte {
    /// Before anything was encoded: between English prose (0.22) and program code (0.4).
    const UNKNOWN: f64 = 0.3;
    /// The texts that count, in bytes: older ones fade.
    const MEMORY: f64 = 500_000.0;

    fn new() -> Self {
        Self(AtomicU64::new(Self::UNKNOWN.to_bits()))
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn tokens(&self, bytes: usize) -> usize {
        (bytes as f64 * self.get()).ceil() as usize
    }

    fn observe(&self, bytes: usize, tokens: usize) {
        if bytes > 0 {
            let weight = (bytes as f64 / Self::MEMORY).min(1.0);
            let mixed = (1.0 - weight) * self.get() + weight * tokens as f64 / bytes as f64;
            // Two at once may lose one: it is an estimate.
            self.0.store(mixed.to_bits(), Ordering::Relaxed);
        }
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    tokenizer
        .encode_fast(text, false)
        .expect("byte-level encoding of text does not fail")
        .get_ids()
        .to_vec()
}

#[cfg(test)]
mod tests;
