//! A filter as a query over the terms of metadata.
//!
//! A term is an attribute's name, NUL and one of its values. Long terms are cut, so the query may keep too
//! much where an operand is as long as a cut: it never keeps too little, and who joins the hits with the
//! database looks again.

use crate::collection::filter::{Comparison, Filter};
use crate::collection::{Metadata, MetadataValue};
use std::ops::Bound;
use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, EmptyQuery, InvertedIndexRangeQuery, Occur, Query, TermQuery,
    TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

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

/// The documents that a filter keeps, and perhaps some more.
pub(super) fn query(filter: &Filter, field: Field) -> Box<dyn Query> {
    let term = |attribute: &str, value: &str| {
        let text = text(attribute, value);
        // A cut term may be shorter by the bytes of a character.
        (text.len() < LONGEST - 3).then(|| Term::from_field_text(field, &text))
    };
    let all = || Box::new(AllQuery) as Box<dyn Query>;
    let any = |terms: Vec<Term>| Box::new(TermSetQuery::new(terms)) as Box<dyn Query>;
    match filter {
        Filter::And(filters) if filters.is_empty() => all(),
        Filter::Or(filters) if filters.is_empty() => Box::new(EmptyQuery),
        Filter::And(filters) => {
            let filters = filters.iter().map(|filter| query(filter, field));
            Box::new(BooleanQuery::intersection(filters.collect()))
        }
        Filter::Or(filters) => {
            let filters = filters.iter().map(|filter| query(filter, field));
            Box::new(BooleanQuery::union(filters.collect()))
        }
        Filter::Compare { attribute, comparison, operand } => {
            let Some(term) = term(attribute, operand) else { return all() };
            let (least, beyond) = (text(attribute, ""), format!("{attribute}\x01"));
            let least = Bound::Included(Term::from_field_text(field, &least));
            let beyond = Bound::Excluded(Term::from_field_text(field, &beyond));
            let range =
                |from, to| Box::new(InvertedIndexRangeQuery::new(from, to)) as Box<dyn Query>;
            match comparison {
                Comparison::Equal => Box::new(TermQuery::new(term, IndexRecordOption::Basic)),
                Comparison::NotEqual => without(any(vec![term])),
                Comparison::Greater => range(Bound::Excluded(term), beyond),
                Comparison::GreaterOrEqual => range(Bound::Included(term), beyond),
                Comparison::Less => range(least, Bound::Excluded(term)),
                Comparison::LessOrEqual => range(least, Bound::Included(term)),
            }
        }
        Filter::In { attribute, operands } => {
            let terms = operands.iter().map(|operand| term(attribute, operand));
            match terms.collect::<Option<Vec<_>>>() {
                Some(terms) if terms.is_empty() => Box::new(EmptyQuery),
                Some(terms) => any(terms),
                None => all(),
            }
        }
        Filter::NotIn { attribute, operands } => {
            let terms = operands.iter().filter_map(|operand| term(attribute, operand));
            let terms: Vec<_> = terms.collect();
            if terms.is_empty() { all() } else { without(any(terms)) }
        }
    }
}

fn without(query: Box<dyn Query>) -> Box<dyn Query> {
    let all: Box<dyn Query> = Box::new(AllQuery);
    Box::new(BooleanQuery::new(vec![(Occur::Must, all), (Occur::MustNot, query)]))
}
