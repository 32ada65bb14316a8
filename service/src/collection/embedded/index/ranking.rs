//! The best passages of an index for some words, by BM25.
//!
//! Where most passages count, blocks of postings that cannot hold one of the best are passed over; where few
//! count, only those are looked at. Either way a passage's score is the sum of its words' in their order, so that
//! equal passages have equal scores.

use super::kept::Kept;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tantivy::query::{
    BooleanQuery, BoostQuery, EmptyQuery, EnableScoring, Query, Scorer, TermQuery, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, Score, Searcher, SegmentReader, Term};

/// Where one of so many passages counts, or fewer, each is looked at by itself.
const SPARSE: usize = 16;

/// Some words, weighed by the statistics of an index.
pub(super) struct Ranking {
    words: Vec<Box<dyn Weight>>,
    /// All of them, in the form that passes over blocks.
    any: Box<dyn Weight>,
    /// Passages in the index.
    passages: usize,
}

impl Ranking {
    /// Words, at least one, with how often each counts.
    pub(super) fn new(
        searcher: &Searcher,
        field: Field,
        words: Vec<(String, u32)>,
    ) -> tantivy::Result<Self> {
        let queries = words.into_iter().map(|(word, count)| {
            let term = Term::from_field_text(field, &word);
            let term: Box<dyn Query> = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            if count == 1 { term } else { Box::new(BoostQuery::new(term, count as f32)) }
        });
        let queries: Vec<_> = queries.collect();
        let scoring = EnableScoring::enabled_from_searcher(searcher);
        let words = queries.iter().map(|query| query.weight(scoring));
        let words = words.collect::<tantivy::Result<_>>()?;
        // A union of one alone would be looked at passage by passage.
        let nothing: Box<dyn Query> = Box::new(EmptyQuery);
        let any = BooleanQuery::union(queries.into_iter().chain([nothing]).collect());
        let any = any.weight(scoring)?;
        Ok(Self { words, any, passages: searcher.num_docs() as usize })
    }

    /// Begins to look for the best.
    pub(super) fn best(&self, limit: usize) -> Best<'_> {
        let limit = limit.min(self.passages).max(1);
        Best { ranking: self, limit, found: BinaryHeap::with_capacity(limit + 1) }
    }
}

/// The best so far.
pub(super) struct Best<'a> {
    ranking: &'a Ranking,
    limit: usize,
    /// The worst first.
    found: BinaryHeap<Reverse<Ranked>>,
}

/// Better ones are greater: by score, then the earlier in the index.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ranked {
    score: Score,
    address: Reverse<DocAddress>,
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(self.address.cmp(&other.address))
    }
}

impl Best<'_> {
    /// Looks through a segment, for those that are kept; none: all are.
    pub(super) fn add(
        &mut self,
        number: u32,
        segment: &SegmentReader,
        kept: Option<&Kept>,
    ) -> tantivy::Result<()> {
        match kept {
            Some(kept) if kept.count() * SPARSE <= segment.max_doc() as usize => {
                let alive = |passage: &DocId| is_alive(segment, *passage);
                self.add_each(number, segment, kept.iter().filter(alive))
            }
            kept => {
                let mut likely = self.likely(segment, kept)?;
                likely.sort_unstable();
                self.add_each(number, segment, likely.into_iter())
            }
        }
    }

    /// Those passages of a segment that may be among the best.
    fn likely(&self, segment: &SegmentReader, kept: Option<&Kept>) -> tantivy::Result<Vec<DocId>> {
        let mut likely = BinaryHeap::with_capacity(self.limit + 1);
        let least = self.threshold();
        let mut threshold = least;
        self.ranking.any.for_each_pruning(least, segment, &mut |passage, score| {
            if kept.is_none_or(|kept| kept.contains(passage)) && is_alive(segment, passage) {
                let address = Reverse(DocAddress::new(0, passage));
                likely.push(Reverse(Ranked { score, address }));
                if likely.len() > self.limit {
                    likely.pop();
                }
                if likely.len() == self.limit {
                    threshold = likely.peek().map_or(least, |Reverse(worst)| worst.score);
                }
            }
            threshold
        })?;
        Ok(likely.into_iter().map(|Reverse(ranked)| ranked.address.0.doc_id).collect())
    }

    /// Looks at passages of a segment in ascending order.
    fn add_each(
        &mut self,
        number: u32,
        segment: &SegmentReader,
        passages: impl Iterator<Item = DocId>,
    ) -> tantivy::Result<()> {
        let words = self.ranking.words.iter().map(|word| word.scorer(segment, 1.0));
        let mut words = words.collect::<tantivy::Result<Vec<_>>>()?;
        for passage in passages {
            let scores = words.iter_mut().filter_map(|word| score_of(&mut **word, passage));
            let score: Score = scores.sum();
            if score > self.threshold() {
                let address = Reverse(DocAddress::new(number, passage));
                self.found.push(Reverse(Ranked { score, address }));
                if self.found.len() > self.limit {
                    self.found.pop();
                }
            }
        }
        Ok(())
    }

    /// The score that one of the best must be above.
    fn threshold(&self) -> Score {
        match self.found.peek() {
            Some(Reverse(worst)) if self.found.len() == self.limit => worst.score,
            _ => 0.0,
        }
    }

    /// The best, best first.
    pub(super) fn into_sorted(self) -> Vec<(Score, DocAddress)> {
        let found = self.found.into_sorted_vec();
        found.into_iter().map(|Reverse(ranked)| (ranked.score, ranked.address.0)).collect()
    }
}

fn is_alive(segment: &SegmentReader, passage: DocId) -> bool {
    segment.alive_bitset().is_none_or(|alive| alive.is_alive(passage))
}

/// What a word adds to a passage's score; none if it is not in it.
fn score_of(word: &mut dyn Scorer, passage: DocId) -> Option<Score> {
    let at = if word.doc() < passage { word.seek(passage) } else { word.doc() };
    (at == passage).then(|| word.score())
}
