//! Causal attention over packed sequences whose keys may begin with a shared prefix.

use super::dot::{Rows, dot_products};
use super::exp::exp;
use super::rope::HeadLayout;
use super::simd::{Simd, dispatch};
use super::{Target, f32_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// A run of query rows of one sequence, and the key rows that they see.
///
/// The row at offset `r` of `queries` sees all of `prefix` and the first `visible + r` of `own`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Rows of `q`.
    pub(crate) queries: Range<usize>,
    /// Rows of `kv` that stand before the sequence's own; empty where there is no prefix.
    pub(crate) prefix: Range<usize>,
    /// Rows of `kv` of the sequence itself, up to the last that any of `queries` sees.
    pub(crate) own: Range<usize>,
    /// How many of `own` the first row of `queries` sees, itself included.
    pub(crate) visible: usize,
}

/// `softmax(q kᵀ / √D) v` of every query row over the keys that its span lets it see.
///
/// - `q`: `[Tq, H D]`, f32; rows may be strided
/// - `kv`: `[Tk, 2 Hk D]`, f32, contiguous: key heads first, then value heads; query head `h`
///   reads key/value head `h / (H / Hk)`
/// - `spans`: cover the rows of `q` without overlap
///
/// Returns `[Tq, H D]`. A key's place in its sequence decides the order of all sums, so a sequence
/// gives the same bits whether its beginning is a shared prefix or its own.
///
/// # Errors
/// If a shape does not fit `heads` or a span lies outside the rows.
pub(crate) fn attention(
    q: &Tensor,
    kv: &Tensor,
    spans: &[Span],
    heads: HeadLayout,
) -> Result<Tensor> {
    q.apply_op2_no_bwd(kv, &Attention { spans, heads })
}

/// Query rows of one task: enough to use a key often while it is in the cache.
const BLOCK_ROWS: usize = 24;

struct Attention<'a> {
    spans: &'a [Span],
    heads: HeadLayout,
}

impl CustomOp2 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        kv: &CpuStorage,
        kv_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let HeadLayout { query_heads, key_heads, head_dim, .. } = self.heads;
        let (rows, width) = q_layout.shape().dims2()?;
        let (key_rows, kv_width) = kv_layout.shape().dims2()?;
        let (&[q_stride, 1], CpuStorage::F32(q)) = (q_layout.stride(), q) else {
            bail!("attention: `q` is not f32 with contiguous rows")
        };
        let q = &q[q_layout.start_offset()..];
        let kv = f32_slice("attention", kv, kv_layout)?;
        if width != query_heads * head_dim
            || kv_width != 2 * key_heads * head_dim
            || rows > 0 && (rows - 1) * q_stride + width > q.len()
        {
            bail!("attention: rows of {width} and {kv_width} do not fit {:?}", self.heads)
        }
        let mut next = 0;
        for span in self.spans {
            if span.queries.start != next
                || span.queries.is_empty()
                || span.visible == 0
                || span.visible + span.queries.len() - 1 > span.own.len()
                || span.own.end.max(span.prefix.end) > key_rows
            {
                bail!("attention: {span:?} does not fit {rows} queries and {key_rows} keys")
            }
            next = span.queries.end;
        }
        if next != rows {
            bail!("attention: spans cover {next} of {rows} rows")
        }

        let mut out = vec![0.0; rows * width];
        let target = Target::new(&mut out);
        let tasks: Vec<(&Span, usize)> = self
            .spans
            .iter()
            .flat_map(|span| {
                (0..span.queries.len()).step_by(BLOCK_ROWS).map(move |row| (span, row))
            })
            .collect();
        (0..tasks.len() * query_heads).into_par_iter().for_each(|task| {
            let ((span, first), head) = (tasks[task / query_heads], task % query_heads);
            let count = BLOCK_ROWS.min(span.queries.len() - first);
            let row = span.queries.start + first;
            let key_head = head / (query_heads / key_heads) * head_dim;
            let keys = |rows: &Range<usize>, offset: usize| Rows {
                first: kv[(rows.start * kv_width + offset).min(kv.len())..].as_ptr(),
                count: rows.len(),
                stride: kv_width,
            };
            let visible = span.visible + first;
            let own = span.own.start..span.own.start + visible + count - 1;
            let block = Block {
                queries: Rows {
                    first: q[row * q_stride + head * head_dim..].as_ptr(),
                    count,
                    stride: q_stride,
                },
                keys: [keys(&span.prefix, key_head), keys(&own, key_head)],
                values: [&span.prefix, &own]
                    .map(|rows| keys(rows, key_heads * head_dim + key_head)),
                visible: span.prefix.len() + visible,
                head_dim,
            };
            // SAFETY: all rows were checked to lie inside `q` and `kv`; the block's place in the
            // output belongs to this task alone.
            unsafe { attend(&block, target.at(row * width + head * head_dim), width) }
        });
        Ok((CpuStorage::F32(out), (rows, width).into()))
    }
}

/// Some query rows of one head, with the keys and values they see: prefix first, then own.
struct Block {
    queries: Rows,
    keys: [Rows; 2],
    values: [Rows; 2],
    /// How many keys the first row sees; each further row sees one more.
    visible: usize,
    head_dim: usize,
}

dispatch! {
    /// # Safety
    /// Rows must be readable for `head_dim` values, and as many rows of `out`, `stride` values
    /// from each other, writable.
    unsafe fn attend(block: &Block, out: *mut f32, stride: usize) = attend_body
}

#[inline(always)]
unsafe fn attend_body<S: Simd>(block: &Block, out: *mut f32, stride: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Portable;
    #[cfg(target_arch = "x86_64")]
    use crate::kernels::simd::x86::{Avx2, Avx512};
    use crate::kernels::test_support::{assert_close, values};
    use candle_core::Device;

    fn naive(q: &[f32], kv: &[f32], spans: &[Span], heads: HeadLayout) -> Vec<f32> {
        let HeadLayout { query_heads, key_heads, head_dim, .. } = heads;
        let (width, kv_width) = (query_heads * head_dim, 2 * key_heads * head_dim);
        let mut out = vec![0.0; q.len()];
        for span in spans {
            for (offset, row) in span.queries.clone().enumerate() {
                let keys: Vec<usize> = span
                    .prefix
                    .clone()
                    .chain(span.own.clone().take(span.visible + offset))
                    .collect();
                for head in 0..query_heads {
                    let query = &q[row * width + head * head_dim..][..head_dim];
                    let key_head = head / (query_heads / key_heads) * head_dim;
                    let mut weights: Vec<f32> = keys
                        .iter()
                        .map(|key| {
                            let key = &kv[key * kv_width + key_head..][..head_dim];
                            let dot: f32 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                            dot / (head_dim as f32).sqrt()
                        })
                        .collect();
                    let max = weights.iter().copied().fold(f32::MIN, f32::max);
                    for weight in &mut weights {
                        *weight = (*weight - max).exp();
                    }
                    let sum: f32 = weights.iter().sum();
                    for d in 0..head_dim {
                        let value = key_heads * head_dim + key_head + d;
                        out[row * width + head * head_dim + d] = keys
                            .iter()
                            .zip(&weights)
                            .map(|(key, w)| w / sum * kv[key * kv_width + value])
                            .sum();
                    }
                }
            }
        }
        out
    }

    /// A key too many or too few, or another head's, changes scores without any error.
    #[test]
    fn equals_the_naive_definition_on_odd_shapes() -> Result<()> {
        for (query_heads, key_heads, head_dim) in
            [(1, 1, 2), (4, 2, 10), (8, 1, 40), (3, 1, 64), (2, 2, 128)]
        {
            let heads = HeadLayout { query_heads, key_heads, head_dim, value_width: 0 };
            let spans = [
                Span { queries: 0..7, prefix: 0..0, own: 0..7, visible: 1 },
                Span { queries: 7..60, prefix: 0..7, own: 7..60, visible: 1 },
                Span { queries: 60..61, prefix: 0..7, own: 60..69, visible: 9 },
                Span { queries: 61..64, prefix: 0..0, own: 69..80, visible: 9 },
            ];
            let (width, kv_width) = (query_heads * head_dim, 2 * key_heads * head_dim);
            let (q, kv) = (values(1, 64 * width), values(2, 80 * kv_width));
            let found = attention(
                &Tensor::from_slice(&q, (64, width), &Device::Cpu)?,
                &Tensor::from_slice(&kv, (80, kv_width), &Device::Cpu)?,
                &spans,
                heads,
            )?;
            let expected = naive(&q, &kv, &spans, heads);
            assert_close(&found.flatten_all()?.to_vec1()?, &expected, 1e-5);
        }
        Ok(())
    }

    fn attend_at<S: Simd>(q: &[f32], kv: &[f32], span: &Span, head_dim: usize) -> Vec<f32> {
        let rows = |values: &[f32], first: usize, count, stride| Rows {
            first: values[first * stride..].as_ptr(),
            count,
            stride,
        };
        let both = |offset: usize| {
            [&span.prefix, &span.own]
                .map(|keys| rows(&kv[offset..], keys.start, keys.len(), 2 * head_dim))
        };
        let block = Block {
            queries: rows(q, 0, span.queries.len(), head_dim),
            keys: both(0),
            values: both(head_dim),
            visible: span.prefix.len() + span.visible,
            head_dim,
        };
        let mut out = vec![0.0; q.len()];
        // SAFETY: one head, so rows of `out` are `head_dim` wide; the caller checked the level.
        unsafe { attend_body::<S>(&block, out.as_mut_ptr(), head_dim) }
        out
    }

    /// Only one level runs on a machine; an error in another would show on somebody else's.
    #[test]
    fn every_level_of_this_processor_attends_alike() {
        for head_dim in [2, 10, 24, 40, 64, 128] {
            let heads = HeadLayout { query_heads: 1, key_heads: 1, head_dim, value_width: 0 };
            let span = Span { queries: 0..9, prefix: 0..5, own: 5..16, visible: 3 };
            let (q, kv) = (values(1, 9 * head_dim), values(2, 16 * 2 * head_dim));
            let expected = naive(&q, &kv, std::slice::from_ref(&span), heads);
            assert_close(&attend_at::<Portable>(&q, &kv, &span, head_dim), &expected, 1e-5);
            #[cfg(target_arch = "x86_64")]
            {
                if std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    assert_close(&attend_at::<Avx2>(&q, &kv, &span, head_dim), &expected, 1e-5);
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    assert_close(&attend_at::<Avx512>(&q, &kv, &span, head_dim), &expected, 1e-5);
                }
            }
        }
    }

    /// Sharing the query must not change a score: prefix and own keys give the same bits.
    #[test]
    fn a_prefix_gives_the_same_bits_as_own_keys() -> Result<()> {
        let heads = HeadLayout { query_heads: 4, key_heads: 2, head_dim: 96, value_width: 0 };
        let q = Tensor::from_vec(values(1, 30 * 384), (30, 384), &Device::Cpu)?;
        let kv = Tensor::from_vec(values(2, 50 * 384), (50, 384), &Device::Cpu)?;
        let shared = [Span { queries: 0..30, prefix: 0..20, own: 20..50, visible: 1 }];
        let whole = [Span { queries: 0..30, prefix: 0..0, own: 0..50, visible: 21 }];
        assert_eq!(
            attention(&q, &kv, &shared, heads)?.to_vec2::<f32>()?,
            attention(&q, &kv, &whole, heads)?.to_vec2::<f32>()?
        );
        Ok(())
    }

    #[test]
    fn refuses_spans_outside_the_rows() -> Result<()> {
        let heads = HeadLayout { query_heads: 1, key_heads: 1, head_dim: 4, value_width: 0 };
        let q = Tensor::from_vec(values(1, 8), (2, 4), &Device::Cpu)?;
        let kv = Tensor::from_vec(values(2, 24), (3, 8), &Device::Cpu)?;
        for span in [
            Span { queries: 0..2, prefix: 0..0, own: 2..4, visible: 1 },
            Span { queries: 0..2, prefix: 0..0, own: 0..2, visible: 2 },
            Span { queries: 0..1, prefix: 0..0, own: 0..2, visible: 1 },
        ] {
            assert!(attention(&q, &kv, std::slice::from_ref(&span), heads).is_err(), "{span:?}");
        }
        Ok(())
    }
}
