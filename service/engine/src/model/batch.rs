//! What one forward computes: token runs packed without padding.

use crate::kernels::Span;
use std::ops::Range;
use std::sync::Arc;

/// Token runs of one forward, concatenated.
///
/// A query goes in once as a prefix; each of its documents follows as a segment that sees the
/// prefix and itself. `T` is the number of all tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    segments: Vec<Segment>,
}

/// A run of tokens with consecutive positions.
#[derive(Clone, Debug)]
struct Segment {
    rows: Range<usize>,
    /// Rows of the prefix that comes before it in its sequence; empty for a prefix itself.
    prefix: Range<usize>,
    scored: bool,
}

/// A prefix of one batch, to hang documents on.
#[derive(Clone, Debug)]
pub(crate) struct Prefix(Range<usize>);

impl Batch {
    /// Adds what several pairs begin with. `ids` must not be empty.
    pub(crate) fn push_prefix(&mut self, ids: &[u32]) -> Prefix {
        Prefix(self.push(ids, 0..0, false))
    }

    /// Adds the rest of one pair; its score is read at its last token. `ids` must not be empty.
    pub(crate) fn push_document(&mut self, prefix: &Prefix, ids: &[u32]) {
        self.push(ids, prefix.0.clone(), true);
    }

    /// Adds documents of a request, at least one, behind their common beginning.
    pub(crate) fn push_pairs(&mut self, prefix: &[u32], documents: &[Arc<[u32]>]) {
        let prefix = self.push_prefix(prefix);
        for document in documents {
            self.push_document(&prefix, document);
        }
    }

    fn push(&mut self, ids: &[u32], prefix: Range<usize>, scored: bool) -> Range<usize> {
        assert!(!ids.is_empty(), "a segment has at least one token");
        let rows = self.ids.len()..self.ids.len() + ids.len();
        self.ids.extend_from_slice(ids);
        let first = prefix.len() as u32;
        self.positions.extend(first..first + ids.len() as u32);
        self.segments.push(Segment { rows: rows.clone(), prefix, scored });
        rows
    }

    /// Token ids, `[T]`.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Place of each token in its own sequence, `[T]`.
    pub(crate) fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Number of tokens, `T`.
    pub(crate) fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The last row of every document, in the order they were added, `[B]`.
    pub(crate) fn last_rows(&self) -> Vec<u32> {
        self.scored().map(|segment| segment.rows.end as u32 - 1).collect()
    }

    /// The attention spans of the packed rows in `rows`, whose first is row 0 of `q`.
    pub(crate) fn spans(&self, rows: &Range<usize>) -> Vec<Span> {
        let first = self.segments.partition_point(|segment| segment.rows.end <= rows.start);
        self.segments[first..]
            .iter()
            .take_while(|segment| segment.rows.start < rows.end)
            .map(|segment| {
                let start = segment.rows.start.max(rows.start);
                let end = segment.rows.end.min(rows.end);
                Span {
                    queries: start - rows.start..end - rows.start,
                    prefix: segment.prefix.clone(),
                    own: segment.rows.start..end,
                    visible: start - segment.rows.start + 1,
                }
            })
            .collect()
    }

    /// The attention spans of the last rows alone, as [`last_rows`](Self::last_rows) orders them.
    pub(crate) fn last_spans(&self) -> Vec<Span> {
        self.scored()
            .enumerate()
            .map(|(row, segment)| Span {
                queries: row..row + 1,
                prefix: segment.prefix.clone(),
                own: segment.rows.clone(),
                visible: segment.rows.len(),
            })
            .collect()
    }

    fn scored(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.scored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_queries() -> Batch {
        let mut batch = Batch::default();
        let first = batch.push_prefix(&[1, 2, 3]);
        batch.push_document(&first, &[4, 5]);
        batch.push_document(&first, &[6]);
        let second = batch.push_prefix(&[7]);
        batch.push_document(&second, &[8, 9, 10, 11]);
        batch
    }

    #[test]
    fn positions_go_on_after_the_prefix() {
        let batch = two_queries();
        assert_eq!(batch.ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(batch.positions(), [0, 1, 2, 3, 4, 3, 0, 1, 2, 3, 4]);
        assert_eq!(batch.last_rows(), [4, 5, 10]);
    }

    /// A pass over part of the rows must see the same keys as one over all of them.
    #[test]
    fn spans_cut_anywhere_show_each_row_the_same_keys() {
        let batch = two_queries();
        let seen = |spans: &[Span]| -> Vec<(Range<usize>, Range<usize>)> {
            spans
                .iter()
                .flat_map(|span| {
                    (0..span.queries.len()).map(|r| {
                        (span.prefix.clone(), span.own.start..span.own.start + span.visible + r)
                    })
                })
                .collect()
        };
        let whole = seen(&batch.spans(&(0..11)));
        for cut in 0..=11 {
            let mut parts = seen(&batch.spans(&(0..cut)));
            parts.extend(seen(&batch.spans(&(cut..11))));
            assert_eq!(parts, whole, "cut at {cut}");
        }
        let last: Vec<_> =
            batch.last_rows().iter().map(|row| whole[*row as usize].clone()).collect();
        assert_eq!(seen(&batch.last_spans()), last);
    }
}
