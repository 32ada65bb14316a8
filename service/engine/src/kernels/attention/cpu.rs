//! Attention on the processor: a task is some query rows of one head.

use super::Span;
use crate::kernels::Target;
use crate::kernels::dot::{Rows, dot_products};
use crate::kernels::exp::exp;
use crate::kernels::rope::HeadLayout;
use crate::kernels::simd::{Simd, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Query rows of one task: enough to use a key often while it is in the cache.
const BLOCK_ROWS: usize = 24;

/// Rows of a matrix: from the first value of the first row on.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

/// The output of [`attention`](super::attention), `[rows, H D]`.
///
/// Shapes must fit `heads` and every span the rows of `q` and `kv`.
pub(super) fn attend_all(
    q: Strided<'_>,
    kv: Strided<'_>,
    spans: &[Span],
    rows: usize,
    heads: HeadLayout,
) -> Vec<f32> {
    let HeadLayout { query_heads, key_heads, head_dim, .. } = heads;
    let width = query_heads * head_dim;
    let mut out = vec![0.0; rows * width];
    let target = Target::new(&mut out);
    let tasks: Vec<(&Span, usize)> = spans
        .iter()
        .flat_map(|span| (0..span.queries.len()).step_by(BLOCK_ROWS).map(move |row| (span, row)))
        .collect();
    (0..tasks.len() * query_heads).into_par_iter().for_each(|task| {
        let ((span, first), head) = (tasks[task / query_heads], task % query_heads);
        let count = BLOCK_ROWS.min(span.queries.len() - first);
        let row = span.queries.start + first;
        let key_head = head / (query_heads / key_heads) * head_dim;
        let keys = |rows: &Range<usize>, offset: usize| Rows {
            first: kv.values[(rows.start * kv.stride + offset).min(kv.values.len())..].as_ptr(),
            count: rows.len(),
            stride: kv.stride,
        };
        let visible = span.visible + first;
        let own = span.own.start..span.own.start + visible + count - 1;
        let block = Block {
            queries: Rows {
                first: q.values[row * q.stride + head * head_dim..].as_ptr(),
                count,
                stride: q.stride,
            },
            keys: [keys(&span.prefix, key_head), keys(&own, key_head)],
            values: [&span.prefix, &own].map(|rows| keys(rows, key_heads * head_dim + key_head)),
            visible: span.prefix.len() + visible,
            head_dim,
        };
        // SAFETY: all rows were checked to lie inside `q` and `kv`; the block's place in the
        // output belongs to this task alone.
        unsafe { attend(&block, target.at(row * width + head * head_dim), width) }
    });
    out
}

/// Some query rows of one head, with the keys and values they see: prefix first, then own.
pub(super) struct Block {
    pub(super) queries: Rows,
    pub(super) keys: [Rows; 2],
    pub(super) values: [Rows; 2],
    /// How many keys the first row sees; each further row sees one more.
    pub(super) visible: usize,
    pub(super) head_dim: usize,
}

dispatch! {
    /// # Safety
    /// Rows must be readable for `head_dim` values, and as many rows of `out`, `stride` values
    /// from each other, writable.
    unsafe fn attend(block: &Block, out: *mut f32, stride: usize) = attend_body
}

#[inline(always)]
pub(super) unsafe fn attend_body<S: Simd>(block: &Block, out: *mut f32, stride: usize) {
    let Block { queries, keys, values, visible, head_dim } = block;
    let total = keys[0].count + keys[1].count;
    let mut weights = vec![0.0; queries.count * total];
    let mut column = 0;
    for keys in keys {
        let to = weights[column..].as_mut_ptr();
        // SAFETY: the caller's promise; `weights` has a place for every query and key.
        unsafe { dot_products::<S>(queries, keys, *head_dim, to, total) }
        column += keys.count;
    }
    let scale = 1.0 / (*head_dim as f32).sqrt();
    for (row, weights) in weights.chunks_mut(total).enumerate() {
        let (seen, unseen) = weights.split_at_mut(visible + row);
        softmax(seen, scale);
        unseen.fill(0.0);
    }
    let mut row = 0;
    while row < queries.count {
        let weights = &weights[row * total..];
        // SAFETY: the rows are among the block's; `weights` holds a row of `total` for each.
        unsafe {
            let out = out.add(row * stride);
            if row + 4 <= queries.count {
                weighted_sums::<S, 4>(weights, total, values, *head_dim, out, stride);
                row += 4;
            } else {
                weighted_sums::<S, 1>(weights, total, values, *head_dim, out, stride);
                row += 1;
            }
        }
    }
}

/// Turns dot products into weights that sum to 1. Values must not be empty.
///
/// Sums go over 16 lanes, then over the lanes: an order that the number of values alone decides.
#[inline(always)]
fn softmax(values: &mut [f32], scale: f32) {
    const LANES: usize = 16;
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (lanes, rest) = values.as_chunks_mut::<LANES>();
    let mut sums = [0.0f32; LANES];
    for values in lanes {
        for (value, sum) in values.iter_mut().zip(&mut sums) {
            *value = exp((*value - max) * scale);
            *sum += *value;
        }
    }
    for (value, sum) in rest.iter_mut().zip(&mut sums) {
        *value = exp((*value - max) * scale);
        *sum += *value;
    }
    let factor = 1.0 / sums.iter().sum::<f32>();
    for value in values {
        *value *= factor;
    }
}

/// `out[r] = Σ weights[r][j] values[j]` over all keys in order, for `R` rows.
///
/// # Safety
/// `weights` holds `R` rows of `total`; values are readable and `out` writable for `head_dim`.
#[inline(always)]
unsafe fn weighted_sums<S: Simd, const R: usize>(
    weights: &[f32],
    total: usize,
    values: &[Rows; 2],
    head_dim: usize,
    out: *mut f32,
    stride: usize,
) {
    const WIDE: usize = 4;
    let weights = &weights[..R * total];
    let mut d = 0;
    // SAFETY: every column that is read and written is below `head_dim`.
    unsafe {
        while d + WIDE * S::LANES <= head_dim {
            columns::<S, R, WIDE>(weights, total, values, d, out, stride);
            d += WIDE * S::LANES;
        }
        while d + S::LANES <= head_dim {
            columns::<S, R, 1>(weights, total, values, d, out, stride);
            d += S::LANES;
        }
        for r in 0..R {
            let weights = &weights[r * total..(r + 1) * total];
            for d in d..head_dim {
                let (prefix, own) = weights.split_at(values[0].count);
                let mut sum = 0.0;
                for (source, weights) in values.iter().zip([prefix, own]) {
                    for (j, weight) in weights.iter().enumerate() {
                        sum += weight * *source.row(j).add(d);
                    }
                }
                *out.add(r * stride + d) = sum;
            }
        }
    }
}

/// The part of [`weighted_sums`] in the `WIDE` vectors from column `d` on, the sums in registers.
#[inline(always)]
unsafe fn columns<S: Simd, const R: usize, const WIDE: usize>(
    weights: &[f32],
    total: usize,
    values: &[Rows; 2],
    d: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise; `column + j` stays below `total`.
    unsafe {
        let mut sums = [[S::splat(0.0); WIDE]; R];
        let mut column = 0;
        for source in values {
            for j in 0..source.count {
                let value = source.row(j).add(d);
                let vectors: [S::Vector; WIDE] =
                    std::array::from_fn(|i| S::load(value.add(i * S::LANES)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = S::splat(*weights.get_unchecked(r * total + column + j));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = S::mul_add(weight, vector, *sum);
                    }
                }
            }
            column += source.count;
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (i, sum) in sums.into_iter().enumerate() {
                S::store(out.add(r * stride + d + i * S::LANES), sum);
            }
        }
    }
}
