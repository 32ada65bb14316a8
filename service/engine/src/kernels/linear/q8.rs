//! 8-bit weights by 8-bit rows, both scaled by groups of `K`: whole numbers inside a group, f32 between.
//!
//! A weight is stored with 128 added, as the processors' products of bytes want one side without a sign;
//! what that adds to a sum, 128 times the row's values, is taken off first. A group's sum is exact and
//! groups are added in order, so every level gives the same bits.

use super::pack::{PANEL, ROWS};
use super::tile::{Block, Kernel, Level, block_body};
use rayon::prelude::*;

/// Values of `K` that share a scale.
const GROUP: usize = 128;
/// Values that the processors multiply and add in one lane.
const QUAD: usize = 4;
const QUADS: usize = GROUP / QUAD;
const LARGEST: f32 = 127.0;
/// What stored weights are above their values.
const OFFSET: i32 = 128;

/// A group of `ROWS` rows of `x`.
#[derive(Clone, Copy, Default)]
pub(super) struct Rows {
    values: [[[i8; QUAD]; ROWS]; QUADS],
    /// What a sum begins with.
    corrections: [i32; ROWS],
    scales: [f32; ROWS],
}

const VALUE_BYTES: usize = GROUP * PANEL;

/// A group of `PANEL` rows of the weight: `[QUADS, PANEL, QUAD]` values, then the rows' scales.
pub(super) type Panel = [u8; VALUE_BYTES + PANEL * size_of::<f32>()];

/// Quantises `weight`, `[N, K]`, to `[N / PANEL, K / GROUP]` panels, the rest filled with zeros.
pub(super) fn quantise<T: Copy + Sync>(
    weight: &[T],
    k: usize,
    to_f32: impl Fn(T) -> f32 + Sync,
) -> Vec<u8> {
    if k == 0 || weight.is_empty() {
        return Vec::new();
    }
    let steps = k.div_ceil(GROUP);
    let panels = (weight.len() / k).div_ceil(PANEL);
    let mut packed = vec![0; panels * steps * size_of::<Panel>()];
    packed.par_chunks_mut(steps * size_of::<Panel>()).zip(weight.par_chunks(PANEL * k)).for_each(
        |(to, from)| {
            for (step, to) in to.as_chunks_mut().0.iter_mut().enumerate() {
                quantise_panel(to, from, k, step * GROUP, &to_f32);
            }
        },
    );
    packed
}

fn quantise_panel<T: Copy>(
    to: &mut Panel,
    from: &[T],
    k: usize,
    begin: usize,
    to_f32: impl Fn(T) -> f32,
) {
    let (values, scales) = to.split_at_mut(VALUE_BYTES);
    values.fill(OFFSET as u8);
    for (row, from) in from.chunks(k).enumerate() {
        let mut group = [0.0; GROUP];
        for (to, from) in group.iter_mut().zip(&from[begin..]) {
            *to = to_f32(*from);
        }
        let (scale, quantised) = quantise_group(&group);
        for (quad, from) in quantised.as_chunks::<QUAD>().0.iter().enumerate() {
            let place = (quad * PANEL + row) * QUAD;
            for (to, from) in values[place..place + QUAD].iter_mut().zip(from) {
                *to = (i32::from(*from) + OFFSET) as u8;
            }
        }
        scales.as_chunks_mut().0[row] = scale.to_ne_bytes();
    }
}

/// Scale and values of a group, to the nearest, ties to even. The scale of what is not finite is not a
/// number, so that no result of it is one.
#[inline(always)]
fn quantise_group(group: &[f32; GROUP]) -> (f32, [i8; GROUP]) {
    // At this size the lowest bits of an f32 count ones.
    const ROUNDING: f32 = 12_582_912.0;
    let mut largest = [0u32; 16];
    for values in group.as_chunks::<16>().0 {
        for (largest, value) in largest.iter_mut().zip(values) {
            // As whole numbers positive floats are in their order, and those not finite the largest.
            *largest = (*largest).max(value.to_bits() & 0x7FFF_FFFF);
        }
    }
    let largest = f32::from_bits(largest.into_iter().max().unwrap_or(0));
    if !largest.is_finite() {
        return (f32::NAN, [0; GROUP]);
    }
    let inverse = LARGEST / largest;
    if !inverse.is_finite() {
        return (0.0, [0; GROUP]);
    }
    (largest / LARGEST, group.map(|value| (value * inverse + ROUNDING).to_bits() as i8))
}

#[inline(always)]
fn pack_body(x: &[f32], k: usize, to: &mut [Rows]) {
    for (row, x) in x.chunks(k).enumerate() {
        for (to, values) in to.iter_mut().zip(x.chunks(GROUP)) {
            let mut group = [0.0; GROUP];
            group[..values.len()].copy_from_slice(values);
            let (scale, quantised) = quantise_group(&group);
            for (to, from) in to.values.iter_mut().zip(quantised.as_chunks().0) {
                to[row] = *from;
            }
            to.scales[row] = scale;
            to.corrections[row] =
                -OFFSET * quantised.iter().map(|&value| i32::from(value)).sum::<i32>();
        }
    }
}

/// Bytes by bytes, at the best level of the processor.
pub(super) struct Quantised;

impl Kernel for Quantised {
    type A = Rows;
    type B = Panel;
    const STEP: usize = GROUP;

    unsafe fn pack(x: &[f32], k: usize, to: &mut [Rows]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                // SAFETY: the features were just detected.
                return unsafe { x86::pack_avx512(x, k, to) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the feature was just detected.
                return unsafe { x86::pack_avx2(x, k, to) };
            }
        }
        pack_body(x, k, to);
    }

    unsafe fn block(block: &Block<'_, Rows, Panel>, out: *mut f32) {
        // SAFETY: the features are detected before each level; the rest is the caller's promise.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            {
                if x86::has_vnni() {
                    return x86::block_vnni(block, out);
                }
                if is_x86_feature_detected!("avx2") {
                    return x86::block_avx2(block, out);
                }
            }
            block_body::<Whole<Portable>>(block, out);
        }
    }
}

/// How a level multiplies bytes.
pub(super) trait Bytes {
    const LANES: usize;
    /// `QUAD` weights of each of `LANES` rows.
    type Weights: Copy;
    /// `QUAD` values of a row of `x`, in every lane.
    type Values: Copy;
    /// `LANES` whole numbers.
    type Sum: Copy;

    unsafe fn splat(value: i32) -> Self::Sum;
    unsafe fn weights(from: *const u8) -> Self::Weights;
    unsafe fn values(from: [i8; QUAD]) -> Self::Values;
    unsafe fn add(sum: Self::Sum, weights: Self::Weights, values: Self::Values) -> Self::Sum;
    /// Adds `sum * (scales * scale)` to what is at `out`, or to zero. Each operation is rounded.
    unsafe fn finish(sum: Self::Sum, scales: *const u8, scale: f32, out: *mut f32, is_begun: bool);
}

/// A level of bytes as one of tiles.
pub(super) struct Whole<B>(B);

impl<B: Bytes> Level for Whole<B> {
    type A = Rows;
    type B = Panel;
    const LANES: usize = B::LANES;
    const PASS: usize = 16;

    #[inline(always)]
    unsafe fn tile<const V: usize>(
        x: *const Rows,
        weight: [(*const Panel, usize); V],
        steps: usize,
        out: *mut f32,
        stride: usize,
        is_begun: bool,
    ) {
        // SAFETY: what is read and written are the steps, rows and vectors of the caller's promise.
        unsafe {
            for step in 0..steps {
                let x = &*x.add(step);
                let panels = weight.map(|(panel, lane)| (panel.add(step).cast::<u8>(), lane));
                let mut sums = x.corrections.map(|correction| [B::splat(correction); V]);
                for (quad, values) in x.values.iter().enumerate() {
                    let weights = panels
                        .map(|(panel, lane)| B::weights(panel.add((quad * PANEL + lane) * QUAD)));
                    for (sums, values) in sums.iter_mut().zip(values) {
                        let values = B::values(*values);
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = B::add(*sum, weights, values);
                        }
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (at, sum) in sums.iter().enumerate() {
                        let (panel, lane) = panels[at];
                        let scales = panel.add(VALUE_BYTES + lane * size_of::<f32>());
                        let to = out.add(row * stride + at * B::LANES);
                        B::finish(*sum, scales, x.scales[row], to, is_begun || step > 0);
                    }
                }
            }
        }
    }
}

/// Eight lanes in plain Rust.
pub(super) struct Portable;

impl Bytes for Portable {
    const LANES: usize = 8;
    type Weights = [[u8; QUAD]; 8];
    type Values = [i8; QUAD];
    type Sum = [i32; 8];

    #[inline(always)]
    unsafe fn splat(value: i32) -> [i32; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        // SAFETY: readable for a vector by the caller's promise.
        unsafe { from.cast::<Self::Weights>().read() }
    }
    #[inline(always)]
    unsafe fn values(from: [i8; QUAD]) -> [i8; QUAD] {
        from
    }
    #[inline(always)]
    unsafe fn add(sum: [i32; 8], weights: Self::Weights, values: [i8; QUAD]) -> [i32; 8] {
        std::array::from_fn(|lane| {
            let products = weights[lane].iter().zip(values);
            sum[lane] + products.map(|(w, x)| i32::from(*w) * i32::from(x)).sum::<i32>()
        })
    }
    #[inline(always)]
    unsafe fn finish(sum: [i32; 8], scales: *const u8, scale: f32, out: *mut f32, is_begun: bool) {
        // SAFETY: readable and writable for a vector by the caller's promise.
        unsafe {
            let scales = scales.cast::<[f32; 8]>().read_unaligned();
            let begun = if is_begun { out.cast::<[f32; 8]>().read_unaligned() } else { [0.0; 8] };
            let sums: [f32; 8] =
                std::array::from_fn(|lane| begun[lane] + sum[lane] as f32 * (scales[lane] * scale));
            out.cast::<[f32; 8]>().write_unaligned(sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;
