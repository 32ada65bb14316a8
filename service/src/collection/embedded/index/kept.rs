//! Which passages of a segment count: a bit each.

/// A set of a segment's passages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Passage `n` is bit `n % 64` of number `n / 64`.
    bits: Vec<u64>,
    passages: u32,
}

impl Kept {
    /// None of so many passages.
    pub(super) fn none(passages: u32) -> Self {
        Self { bits: vec![0; passages.div_ceil(64) as usize], passages }
    }

    /// All of so many passages.
    pub(super) fn all(passages: u32) -> Self {
        Self::none(passages).not()
    }

    pub(super) fn insert(&mut self, passage: u32) {
        self.bits[passage as usize / 64] |= 1 << (passage % 64);
    }

    pub(super) fn contains(&self, passage: u32) -> bool {
        self.bits[passage as usize / 64] >> (passage % 64) & 1 == 1
    }

    pub(super) fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    /// Those that are in both.
    pub(super) fn and(&mut self, other: &Self) {
        for (bits, others) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= others;
        }
    }

    /// Those that are in one.
    pub(super) fn or(&mut self, other: &Self) {
        for (bits, others) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= others;
        }
    }

    /// Those that are not in it.
    pub(super) fn not(mut self) -> Self {
        for bits in &mut self.bits {
            *bits = !*bits;
        }
        if let Some(last) = self.bits.last_mut()
            && !self.passages.is_multiple_of(64)
        {
            *last &= (1 << (self.passages % 64)) - 1;
        }
        self
    }

    /// The passages, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..).step_by(64).zip(&self.bits).flat_map(|(first, bits)| {
            let mut rest = *bits;
            std::iter::from_fn(move || {
                let next = (rest != 0).then(|| first + rest.trailing_zeros());
                rest &= rest.wrapping_sub(1);
                next
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// A filter would keep what it forbids at the edges of words of 64.
        #[test]
        fn sets_are_sets(
            passages in 0u32..200,
            one in prop::collection::btree_set(0u32..200, 0..50),
            other in prop::collection::btree_set(0u32..200, 0..50),
        ) {
            let all: BTreeSet<u32> = (0..passages).collect();
            let kept = |set: &BTreeSet<u32>| {
                let mut kept = Kept::none(passages);
                set.intersection(&all).for_each(|passage| kept.insert(*passage));
                kept
            };
            let set = |kept: &Kept| kept.iter().collect::<BTreeSet<_>>();
            let (mut and, mut or, not) = (kept(&one), kept(&one), kept(&one).not());
            and.and(&kept(&other));
            or.or(&kept(&other));
            let within = |set: BTreeSet<u32>| &set & &all;
            prop_assert_eq!(set(&and), within(&one & &other));
            prop_assert_eq!(set(&or), within(&one | &other));
            prop_assert_eq!(set(&not), &all - &one);
            prop_assert_eq!(not.count(), set(&not).len());
            prop_assert_eq!(not.is_empty(), set(&not).is_empty());
            prop_assert!(all.iter().all(|passage| not.contains(*passage) != one.contains(passage)));
            prop_assert_eq!(set(&Kept::all(passages)), all);
        }
    }
}
