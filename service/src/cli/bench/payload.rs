//! The requests that are sent: made up from a seed, or read from a file.

use super::random::Random;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What all requests may hold together; they are kept in memory and sent in turn.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Different requests that are made up.
const MAX_REQUESTS: usize = 256;

/// One request, in the fields and names of the hosted API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    pub(super) query: String,
    pub(super) documents: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<Class>,
}

/// A class of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    /// Interactive
    Fast,
    /// Batch
    Slow,
}

/// The size of made-up requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) documents: usize,
    pub(super) document_chars: usize,
    pub(super) query_chars: usize,
}

impl Shape {
    /// Bytes of one request's texts: the made-up text is ASCII.
    pub(super) fn bytes(&self) -> usize {
        self.documents.saturating_mul(self.document_chars).saturating_add(self.query_chars)
    }
}

/// Made-up requests: as many different ones as fit the memory, at most 256. Documents of 30
/// characters or more all differ.
pub(super) fn make_up(shape: Shape, seed: u64) -> Vec<Payload> {
    let Shape { documents, document_chars, query_chars } = shape;
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut random = Random::new(seed);
    let mut text = |chars| text(&words, &mut random, chars);
    let request = |_| Payload {
        query: text(query_chars),
        documents: (0..documents).map(|_| text(document_chars)).collect(),
        ..Payload::default()
    };
    (0..requests_of(shape)).map(request).collect()
}

fn requests_of(shape: Shape) -> usize {
    (MAX_BYTES / shape.bytes().max(1)).clamp(1, MAX_REQUESTS)
}

/// The requests of a file of JSON Lines.
///
/// # Errors
/// A sentence that names the file, and the line if only that is wrong.
pub(super) fn read(file: &Path) -> Result<Vec<Payload>, String> {
    let failed = |error| format!("cannot read `{}`: {error}", file.display());
    let lines = BufReader::new(std::fs::File::open(file).map_err(failed)?).lines();
    let mut payloads = Vec::new();
    let mut bytes = 0;
    for (number, line) in (1..).zip(lines) {
        let line = line.map_err(failed)?;
        if line.trim().is_empty() {
            continue;
        }
        bytes += line.len();
        if bytes > MAX_BYTES {
            return Err(format!(
                "`{}` has over {MAX_BYTES} bytes of requests; they are kept in memory: give fewer",
                file.display()
            ));
        }
        let payload = serde_json::from_str(&line)
            .map_err(|error| format!("`{}`, line {number}: {error}", file.display()))?;
        payloads.push(payload);
    }
    if payloads.is_empty() {
        return Err(format!("`{}` holds no request", file.display()));
    }
    Ok(payloads)
}

/// The commonest words first.
const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from or \
    had an they which one you were all her she there would their we him been has when who will no \
    more if out so up said what its about than into them can only other time new some could these \
    two may first then do any like my now over such our man even most made after also did many off \
    before must well back through years much where your way down should because long each just \
    state those people too world still government system water history science energy market \
    research language river mountain engine planet music health food winter summer station \
    railway library garden window bridge island doctor teacher measure number question answer \
    document search result between during against without however although important different \
    general national public political economic natural historical modern ancient northern \
    southern develop produce require provide consider describe discover increase reduce compare";

/// ASCII text of exactly so many characters that a tokenizer treats as English: common words are
/// common, sentences begin with a capital and end with a full stop.
fn text(words: &[&str], random: &mut Random, chars: usize) -> String {
    let mut text = String::with_capacity(chars + 16);
    let mut left = 0;
    while text.len() < chars {
        let unit = random.unit();
        // The square puts more weight on the beginning of the list.
        let word = words[((1.0 - unit).powi(2) * words.len() as f64) as usize];
        if left == 0 {
            left = 6 + random.below(12);
            if !text.is_empty() {
                text.push_str(". ");
            }
            text.push_str(&word[..1].to_ascii_uppercase());
            text.push_str(&word[1..]);
        } else {
            text.push(' ');
            text.push_str(word);
        }
        left -= 1;
    }
    text.truncate(chars);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Identical documents are scored once, and a server would look faster than it is.
    #[test]
    fn made_up_documents_have_their_size_and_all_differ() {
        let shape = Shape { documents: 50, document_chars: 30, query_chars: 25 };
        let payloads = make_up(shape, 1);
        assert_eq!(payloads.len(), MAX_REQUESTS);
        assert!(payloads.iter().all(|payload| payload.query.len() == 25));
        let documents: Vec<&String> = payloads.iter().flat_map(|p| &p.documents).collect();
        assert!(documents.iter().all(|document| document.len() == 30));
        let different: HashSet<&String> = documents.iter().copied().collect();
        assert_eq!(different.len(), 50 * MAX_REQUESTS);
        assert_eq!(make_up(shape, 1), payloads);
        assert_ne!(make_up(shape, 2), payloads);
        let large = Shape { documents: 10_000, document_chars: 2_000, query_chars: 0 };
        assert_eq!(requests_of(large), 3);
    }

    /// A request that is sent other than the file says measures something else.
    #[test]
    fn a_file_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.jsonl");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).map_err(|error| error.replace(&path.display().to_string(), "FILE"))
        };
        let lines = "{\"query\":\"q\",\"documents\":[\"a\",\"b\"]}\n\n\
                     {\"model\":\"m\",\"query\":\"\",\"documents\":[],\"top_n\":3,\"latency\":\"slow\"}\n";
        let first = Payload {
            query: "q".into(),
            documents: vec!["a".into(), "b".into()],
            ..Payload::default()
        };
        let second = Payload {
            model: Some("m".into()),
            top_n: Some(3),
            latency: Some(Class::Slow),
            ..Payload::default()
        };
        assert_eq!(read(lines), Ok(vec![first, second]));
        let error = read("{\"query\":\"q\",\"documents\":[],\"topn\":1}\n").unwrap_err();
        assert!(error.starts_with("`FILE`, line 1: unknown field `topn`"), "{error}");
        assert_eq!(read("\n"), Err("`FILE` holds no request".to_owned()));
    }
}
