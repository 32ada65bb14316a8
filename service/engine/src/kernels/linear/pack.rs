//! The order in which products read their operands.

use super::tile::Kernel;
use half::bf16;
use rayon::prelude::*;

/// Rows of a weight matrix that lie beside each other.
pub(super) const PANEL: usize = 16;
/// Rows of `x` that one tile holds.
pub(super) const ROWS: usize = 6;

/// Packs `weight`, `[N, K]`, to `[N / PANEL, K / step, PANEL, step]`, the rest filled with zeros.
pub(super) fn weights<T: Copy + Default + Send + Sync>(
    weight: &[T],
    k: usize,
    step: usize,
) -> Vec<T> {
    if k == 0 || weight.is_empty() {
        return Vec::new();
    }
    let panels = (weight.len() / k).div_ceil(PANEL);
    let mut packed = vec![T::default(); panels * PANEL * k.next_multiple_of(step)];
    let panel_len = packed.len() / panels;
    packed.par_chunks_mut(panel_len).zip(weight.par_chunks(PANEL * k)).for_each(|(to, from)| {
        for (column, row) in from.chunks(k).enumerate() {
            for (at, values) in row.chunks(step).enumerate() {
                let place = (at * PANEL + column) * step;
                to[place..place + values.len()].copy_from_slice(values);
            }
        }
    });
    packed
}

/// Packed bf16 weights as their steps of two: the earlier in the lower half.
pub(super) fn pairs(weights: &[bf16]) -> &[[[bf16; 2]; PANEL]] {
    weights.as_chunks().0.as_chunks().0
}

/// Packs `x`, `[T, K]`, to `[T / ROWS, steps]`, the rest filled with zeros.
pub(super) fn rows<K: Kernel>(x: &[f32], k: usize, is_small: bool) -> Vec<K::A> {
    let blocks = (x.len() / k).div_ceil(ROWS);
    let steps = k.div_ceil(K::STEP);
    let mut packed = vec![K::A::default(); blocks * steps];
    // SAFETY: a block has a place for each step, and `from` at most `ROWS` rows.
    let pack = |(to, from): (&mut [K::A], &[f32])| unsafe { K::pack(from, k, to) };
    if is_small {
        packed.chunks_mut(steps).zip(x.chunks(ROWS * k)).for_each(pack);
    } else {
        packed.par_chunks_mut(steps).zip(x.par_chunks(ROWS * k)).for_each(pack);
    }
    packed
}
