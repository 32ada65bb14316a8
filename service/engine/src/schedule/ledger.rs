//! Which documents of one request are scored. Pure.
//!
//! Documents with the same tokens share a slot: it is scored once and answers all of them.

use crate::model::EncodedDocument;
use std::collections::HashMap;
use std::sync::Arc;

/// The documents of one request, by index and by slot.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: HashMap<Arc<[u32]>, usize>,
    /// The score of each slot, or the documents that wait for it.
    scores: Vec<Result<f32, Vec<Entry>>>,
    documents: usize,
    unscored: usize,
    /// Documents with a score that nobody has taken yet.
    ready: Vec<(Entry, f32)>,
}

/// A document that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its position in the request.
    pub(super) index: usize,
    /// Tokens of the pair.
    pub(super) tokens: usize,
    pub(super) truncated: bool,
}

impl Ledger {
    /// Adds the next document, behind a prefix of `prefix` tokens; true if it needs a new slot, the
    /// next number.
    pub(super) fn add(&mut self, document: &EncodedDocument, prefix: usize) -> bool {
        let EncodedDocument { ids, truncated } = document;
        let entry =
            Entry { index: self.documents, tokens: prefix + ids.len(), truncated: *truncated };
        self.documents += 1;
        if let Some(&slot) = self.slots.get(ids) {
            match &mut self.scores[slot] {
                Ok(logit) => self.ready.push((entry, *logit)),
                Err(waiting) => waiting.push(entry),
            }
            return false;
        }
        self.slots.insert(ids.clone(), self.scores.len());
        self.scores.push(Err(vec![entry]));
        self.unscored += 1;
        true
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.scores.len()
    }

    /// Enters the score of a slot.
    pub(super) fn score(&mut self, slot: usize, logit: f32) {
        if let Err(waiting) = std::mem::replace(&mut self.scores[slot], Ok(logit)) {
            self.unscored -= 1;
            self.ready.extend(waiting.into_iter().map(|entry| (entry, logit)));
        }
    }

    /// The documents that got a score since the last call.
    pub(super) fn take_ready(&mut self) -> Vec<(Entry, f32)> {
        std::mem::take(&mut self.ready)
    }

    /// Whether every document that was added has its score.
    pub(super) fn is_scored(&self) -> bool {
        self.unscored == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A duplicate without an answer, or with its neighbour's, is a wrong answer.
        #[test]
        fn every_document_gets_the_score_of_its_own_tokens_once(
            steps in prop::collection::vec((1..6u32, any::<bool>()), 1..40),
        ) {
            let mut ledger = Ledger::default();
            let mut unscored: Vec<(usize, u32)> = Vec::new();
            let mut answers = vec![None; steps.len()];
            let mut score_one = |ledger: &mut Ledger, unscored: &mut Vec<(usize, u32)>| {
                if let Some((slot, token)) = unscored.pop() {
                    ledger.score(slot, token as f32);
                }
                for (entry, logit) in ledger.take_ready() {
                    assert_eq!(answers[entry.index].replace(logit), None, "answered twice");
                }
            };
            for &(token, and_score) in &steps {
                let slot = ledger.slots();
                let document = EncodedDocument { ids: Arc::from([token]), truncated: false };
                if ledger.add(&document, 3) {
                    prop_assert_eq!(ledger.slots(), slot + 1);
                    unscored.push((slot, token));
                }
                if and_score {
                    score_one(&mut ledger, &mut unscored);
                }
            }
            while !ledger.is_scored() {
                score_one(&mut ledger, &mut unscored);
            }
            score_one(&mut ledger, &mut unscored);
            let expected: Vec<_> = steps.iter().map(|&(token, _)| Some(token as f32)).collect();
            prop_assert_eq!(answers, expected);
            prop_assert!(ledger.slots() <= 5);
        }
    }
}
