//! A filter as sets of passages, by the terms of metadata.
//!
//! A term is an attribute's name, NUL and one of its values. Long terms are cut, so a filter may keep too
//! much where an operand is as long as a cut: it never keeps too little, and who joins the hits with the
//! database looks again.

use super::kept::Kept;
use crate::collection::filter::{Comparison, Filter};
use crate::collection::{Metadata, MetadataValue};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use tantivy::postings::TermInfo;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{InvertedIndexReader, SegmentReader};

/// Bytes of a term at most. An operand that reaches it cannot be compared with what is cut.
const LONGEST: usize = 1000;

/// The terms of a document's metadata.
pub(super) fn terms(metadata: &Metadata) -> impl Iterator<Item = String> {
    metadata.attributes().iter().flat_map(|(name, value)| {
        let values = match value {
            MetadataValue::One(value) => std::slice::from_ref(value),
            MetadataValue::Many(values) => values,
        };
        values.iter().map(move |value| {
            let mut term = text(name, value);
            term.truncate(term.floor_char_boundary(LONGEST));
            term
        })
    })
}

fn text(attribute: &str, value: &str) -> String {
    format!("{attribute}\0{value}")
}

/// The passages of a segment that a filter keeps, and perhaps some more.
///
/// Takes a bit a passage for each filter that others are nested in, however many there are.
pub(super) fn kept(
    filter: &Filter,
    segment: &SegmentReader,
    field: Field,
) -> tantivy::Result<Kept> {
    let terms = segment.inverted_index(field)?;
    Ok(Terms { terms, passages: segment.max_doc() }.kept(filter)?)
}

/// The terms of a segment's metadata.
struct Terms {
    terms: Arc<InvertedIndexReader>,
    passages: u32,
}

impl Terms {
    fn kept(&self, filter: &Filter) -> io::Result<Kept> {
        match filter {
            Filter::And(filters) => {
                let Some((first, others)) = filters.split_first() else { return Ok(self.all()) };
                let mut kept = self.kept(first)?;
                for filter in others {
                    if kept.is_empty() {
                        break;
                    }
                    kept.and(&self.kept(filter)?);
                }
                Ok(kept)
            }
            Filter::Or(filters) => {
                let Some((first, others)) = filters.split_first() else { return Ok(self.none()) };
                let mut kept = self.kept(first)?;
                for filter in others {
                    kept.or(&self.kept(filter)?);
                }
                Ok(kept)
            }
            Filter::Compare { attribute, comparison, operand } => {
                self.compare(attribute, *comparison, operand)
            }
            Filter::In { attribute, operands } => {
                let terms = operands.iter().map(|operand| term(attribute, operand));
                match terms.collect::<Option<Vec<_>>>() {
                    Some(terms) => self.any(&terms),
                    None => Ok(self.all()),
                }
            }
            Filter::NotIn { attribute, operands } => {
                let terms = operands.iter().filter_map(|operand| term(attribute, operand));
                Ok(self.any(&terms.collect::<Vec<_>>())?.not())
            }
        }
    }

    fn compare(&self, attribute: &str, comparison: Comparison, operand: &str) -> io::Result<Kept> {
        let Some(term) = term(attribute, operand) else { return Ok(self.all()) };
        let least = Bound::Included(text(attribute, ""));
        let beyond = Bound::Excluded(format!("{attribute}\x01"));
        match comparison {
            Comparison::Equal => self.any(&[term]),
            Comparison::NotEqual => Ok(self.any(&[term])?.not()),
            Comparison::Greater => self.between(&Bound::Excluded(term), &beyond),
            Comparison::GreaterOrEqual => self.between(&Bound::Included(term), &beyond),
            Comparison::Less => self.between(&least, &Bound::Excluded(term)),
            Comparison::LessOrEqual => self.between(&least, &Bound::Included(term)),
        }
    }

    fn none(&self) -> Kept {
        Kept::none(self.passages)
    }

    fn all(&self) -> Kept {
        Kept::all(self.passages)
    }

    /// The passages that have one of these terms.
    fn any(&self, terms: &[String]) -> io::Result<Kept> {
        let mut kept = self.none();
        for term in terms {
            if let Some(found) = self.terms.terms().get(term)? {
                self.insert(&found, &mut kept)?;
            }
        }
        Ok(kept)
    }

    /// The passages that have a term between these.
    fn between(&self, from: &Bound<String>, to: &Bound<String>) -> io::Result<Kept> {
        let range = self.terms.terms().range();
        let range = match from {
            Bound::Included(from) => range.ge(from),
            Bound::Excluded(from) => range.gt(from),
            Bound::Unbounded => range,
        };
        let range = match to {
            Bound::Included(to) => range.le(to),
            Bound::Excluded(to) => range.lt(to),
            Bound::Unbounded => range,
        };
        let mut kept = self.none();
        let mut terms = range.into_stream()?;
        while terms.advance() {
            self.insert(terms.value(), &mut kept)?;
        }
        Ok(kept)
    }

    fn insert(&self, term: &TermInfo, kept: &mut Kept) -> io::Result<()> {
        let mut blocks =
            self.terms.read_block_postings_from_terminfo(term, IndexRecordOption::Basic)?;
        while !blocks.docs().is_empty() {
            blocks.docs().iter().for_each(|passage| kept.insert(*passage));
            blocks.advance();
        }
        Ok(())
    }
}

/// An operand as a term; none if what it is compared with may be cut.
fn term(attribute: &str, operand: &str) -> Option<String> {
    let term = text(attribute, operand);
    // A cut term may be shorter by the bytes of a character.
    (term.len() < LONGEST - 3).then_some(term)
}
