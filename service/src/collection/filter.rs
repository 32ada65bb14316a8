//! Which documents a query may find, by their metadata: one meaning for every store.

use super::{Metadata, MetadataValue};
use std::collections::BTreeSet;

/// A filter that has been checked: comparisons of strings fit plain attributes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All must hold; none holds always.
    And(Vec<Filter>),
    /// One must hold; none never holds.
    Or(Vec<Filter>),
    /// A plain attribute compared with a string, byte by byte. A missing attribute fails every comparison
    /// but [`Comparison::NotEqual`].
    Compare {
        /// Without `list:`.
        attribute: String,
        /// How.
        comparison: Comparison,
        /// With what.
        operand: String,
    },
    /// One of the attribute's strings is one of these.
    In {
        /// Possibly with `list:`.
        attribute: String,
        /// These.
        operands: BTreeSet<String>,
    },
    /// None of the attribute's strings is one of these; holds where the attribute is missing.
    NotIn {
        /// Possibly with `list:`.
        attribute: String,
        /// These.
        operands: BTreeSet<String>,
    },
}

/// How strings compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Filter {
    /// The filter that keeps every document.
    pub const ALL: Self = Self::And(Vec::new());

    /// How many comparisons it is made of; one with a set of strings is one.
    pub fn conditions(&self) -> usize {
        match self {
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().map(Self::conditions).sum::<usize>().max(1)
            }
            Self::Compare { .. } | Self::In { .. } | Self::NotIn { .. } => 1,
        }
    }

    /// Whether a document with this metadata is kept.
    pub fn keeps(&self, metadata: &Metadata) -> bool {
        match self {
            Self::And(filters) => filters.iter().all(|filter| filter.keeps(metadata)),
            Self::Or(filters) => filters.iter().any(|filter| filter.keeps(metadata)),
            Self::Compare { attribute, comparison, operand } => {
                match (metadata.attributes().get(attribute), comparison) {
                    (Some(MetadataValue::One(value)), comparison) => {
                        comparison.holds(value, operand)
                    }
                    (_, comparison) => *comparison == Comparison::NotEqual,
                }
            }
            Self::In { attribute, operands } => shares(metadata, attribute, operands),
            Self::NotIn { attribute, operands } => !shares(metadata, attribute, operands),
        }
    }
}

impl Comparison {
    fn holds(self, value: &str, operand: &str) -> bool {
        match self {
            Self::Equal => value == operand,
            Self::NotEqual => value != operand,
            Self::Greater => value > operand,
            Self::GreaterOrEqual => value >= operand,
            Self::Less => value < operand,
            Self::LessOrEqual => value <= operand,
        }
    }
}

fn shares(metadata: &Metadata, attribute: &str, operands: &BTreeSet<String>) -> bool {
    match metadata.attributes().get(attribute) {
        Some(MetadataValue::One(value)) => operands.contains(value),
        Some(MetadataValue::Many(values)) => values.iter().any(|value| operands.contains(value)),
        None => false,
    }
}
