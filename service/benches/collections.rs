//! What the embedded store takes to index generated text and to search it, without HTTP.
//!
//! `cargo bench -p reranker --bench collections [-- PASSAGES [PASSAGES_OF_A_DOCUMENT]]`; 20,000 passages of 2000
//! characters unless given, 100 a document. Texts are Zipf-distributed words.

use reranker::collection::embedded::{Embedded, Language};
use reranker::collection::filter::{Comparison, Filter};
use reranker::collection::ingest::{Ingest, IngestOptions};
use reranker::collection::{
    CollectionName, Content, DocumentPath, DocumentText, Granularity, Metadata, MetadataValue,
    NewDocument, Search, Store, Unit,
};
use reranker::parse::ParseLimits;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PASSAGE: usize = 2000;
const WORDS: usize = 60_000;
const QUERIES: usize = 500;
/// Passages that a query's reranker sees.
const CANDIDATES: usize = 100;
const LETTERS: &[u8] = b"eeetttaaooiinnsshhrrdlucmfwypvbgk";

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let passages = numbers.first().copied().unwrap_or(20_000);
    let together = numbers.get(1).copied().unwrap_or(100);
    let mut words = Words::new();
    let texts: Vec<String> =
        (0..passages / together).map(|_| words.text(together * PASSAGE)).collect();
    let queries: Vec<String> = (0..QUERIES).map(|_| words.query(5)).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(texts, &queries))
}

async fn run(texts: Vec<String>, queries: &[String]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path(), Language::default())?);
    let name = CollectionName::new("bench".to_owned())?;
    store.add_collection(&name, 1).await?;
    let bytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;

    let spent = Spent::begin()?;
    let documents = texts.len() as u64;
    for (number, text) in texts.into_iter().enumerate() {
        store.add_document(&name, document(number, text)?, false).await?;
    }
    writeln!(out, "added {documents} documents, {bytes:.0} MB: {}", spent.end(bytes)?)?;

    let spent = Spent::begin()?;
    let options = IngestOptions { workers: 2, limits: ParseLimits::default() };
    let ingest = Ingest::start(&store, options);
    while store.statistics(Some(&name)).await?.indexed < documents {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writeln!(out, "indexed: {}", spent.end(bytes)?)?;
    writeln!(out, "memory: {} MB", memory()?)?;

    let bucket = Filter::Compare {
        attribute: "bucket".to_owned(),
        comparison: Comparison::Equal,
        operand: "0".to_owned(),
    };
    for granularity in [Granularity::Coarse, Granularity::Fine] {
        for (what, filter, words) in [
            ("5 words", &Filter::ALL, 5),
            ("5 words, filter keeps 1 %", &bucket, 5),
            ("1 word", &Filter::ALL, 1),
        ] {
            let mut times = Vec::new();
            for query in queries.iter().chain(queries) {
                let words: Vec<_> = query.split(' ').take(words).collect();
                let search = Search {
                    query: words.join(" "),
                    filter: filter.clone(),
                    unit: Unit::Passage(granularity),
                    limit: CANDIDATES,
                    with_text: true,
                };
                let start = Instant::now();
                store.search(&name, search).await?;
                times.push(start.elapsed());
            }
            let times = &mut times[QUERIES..];
            times.sort_unstable();
            let (p50, p99) = (times[QUERIES / 2], times[QUERIES * 99 / 100]);
            writeln!(out, "{granularity:?}, {what}: p50 {p50:.1?}, p99 {p99:.1?}")?;
        }
    }
    writeln!(out, "memory: {} MB", memory()?)?;
    ingest.close().await;
    store.close().await;
    Ok(())
}

/// One in a hundred documents is in bucket 0.
fn document(number: usize, text: String) -> Result<NewDocument, Failed> {
    let bucket = MetadataValue::One((number % 100).to_string());
    Ok(NewDocument {
        path: DocumentPath::new(format!("{number:07}"))?,
        content: Content::Text(DocumentText::plain(text)),
        metadata: Metadata::new(BTreeMap::from([("bucket".to_owned(), bucket)]))?,
    })
}

/// Wall time and the process's CPU time.
struct Spent {
    wall: Instant,
    cpu: f64,
}

impl Spent {
    fn begin() -> Result<Self, Failed> {
        Ok(Self { wall: Instant::now(), cpu: cpu_seconds()? })
    }

    fn end(&self, megabytes: f64) -> Result<String, Failed> {
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), cpu_seconds()? - self.cpu);
        Ok(format!(
            "{wall:.1} s, {:.1} MB/s; {:.0} ms of CPU a MB",
            megabytes / wall,
            cpu * 1e3 / megabytes
        ))
    }
}

/// User and system time, in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    let ticks: Result<Vec<f64>, _> = fields.skip(12).take(2).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / 100.0)
}

/// Resident MB.
fn memory() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    Ok(kilobytes.parse::<u64>()? / 1000)
}

/// Words of 2 to 10 letters, the n-th one in proportion to 1 / n.
struct Words {
    all: Vec<String>,
    sums: Vec<f64>,
    state: u64,
}

impl Words {
    fn new() -> Self {
        let mut new = Self { all: Vec::new(), sums: Vec::new(), state: 1 };
        let mut sum = 0.0;
        for rank in 1..=WORDS {
            let length = 2 + new.random() as usize % 3 + rank * 6 / WORDS;
            let letters =
                (0..length).map(|_| char::from(LETTERS[new.random() as usize % LETTERS.len()]));
            let word = letters.collect();
            sum += 1.0 / rank as f64;
            new.all.push(word);
            new.sums.push(sum);
        }
        new
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn word(&mut self) -> &str {
        let last = self.sums[self.sums.len() - 1];
        let drawn = (self.random() >> 11) as f64 / (1u64 << 53) as f64 * last;
        &self.all[self.sums.partition_point(|sum| *sum <= drawn)]
    }

    /// Sentences of about ten words.
    fn text(&mut self, length: usize) -> String {
        let mut text = String::with_capacity(length + 16);
        while text.len() < length {
            let end = if self.random().is_multiple_of(10) { ". " } else { " " };
            text.push_str(self.word());
            text.push_str(end);
        }
        text.truncate(length);
        text
    }

    fn query(&mut self, words: usize) -> String {
        let words: Vec<_> = (0..words).map(|_| self.word().to_owned()).collect();
        words.join(" ")
    }
}
