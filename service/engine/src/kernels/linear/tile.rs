//! The innermost loops: `ROWS` rows of `x` against some panels, the sums in registers.

use super::pack::{Depth, PANEL, ROWS};
use crate::kernels::simd::{Simd, dispatch};
use half::bf16;
use std::ops::Range;

/// Steps that go through all rows before the next ones: what a tile reads of its panels then stays in the
/// second-level cache.
const STEPS_PER_PASS: usize = 512;

/// Panels against all rows of `x`.
pub(super) struct Block<'a, A, B> {
    /// Packed, `rows` in all.
    pub(super) x: &'a [A],
    pub(super) rows: usize,
    /// Whole panels.
    pub(super) weight: &'a [B],
    /// The weight's row that the first panel begins with.
    pub(super) first: usize,
    /// The weight's rows whose products are wanted.
    pub(super) chosen: &'a Range<usize>,
    pub(super) depth: Depth,
}

/// One way to multiply.
pub(super) trait Kernel {
    /// What a row of `x` has for one step.
    type A: Copy + Default + Send + Sync;
    /// What a row of the weight has for one step.
    type B: Copy + Send + Sync;
    /// Values of `K` in a step.
    const STEP: usize;

    /// Packs up to `ROWS` rows of `k` values; `to` is zero.
    ///
    /// # Safety
    /// The processor must run the kernel; `to` has `ROWS` places for every step.
    unsafe fn pack(x: &[f32], k: usize, to: &mut [Self::A]);

    /// Writes the products of a block to `out`, rows of `chosen` values.
    ///
    /// # Safety
    /// The processor must run the kernel; `out` must be writable for every row of `x` at the block's
    /// columns.
    unsafe fn block(block: &Block<'_, Self::A, Self::B>, out: *mut f32);
}

/// f32 by f32.
pub(super) struct Single;

impl Kernel for Single {
    type A = f32;
    type B = f32;
    const STEP: usize = 1;

    unsafe fn pack(x: &[f32], k: usize, to: &mut [f32]) {
        pack_body(x, k, to, 1, |values| values[0]);
    }
    unsafe fn block(block: &Block<'_, f32, f32>, out: *mut f32) {
        // SAFETY: the caller's promise is the same.
        unsafe { single_block(block, out) }
    }
}

/// f32 by bf16 that is widened in registers.
pub(super) struct Widened;

impl Kernel for Widened {
    type A = [f32; 2];
    type B = [bf16; 2];
    const STEP: usize = 2;

    unsafe fn pack(x: &[f32], k: usize, to: &mut [[f32; 2]]) {
        pack_body(x, k, to, 2, |values| [values[0], values.get(1).copied().unwrap_or(0.0)]);
    }
    unsafe fn block(block: &Block<'_, [f32; 2], [bf16; 2]>, out: *mut f32) {
        // SAFETY: the caller's promise is the same.
        unsafe { widened_block(block, out) }
    }
}

fn pack_body<A: Copy>(x: &[f32], k: usize, to: &mut [A], step: usize, pack: impl Fn(&[f32]) -> A) {
    for (row, x) in x.chunks(k).enumerate() {
        for (at, values) in x.chunks(step).enumerate() {
            to[at * ROWS + row] = pack(values);
        }
    }
}

/// How a level multiplies what is packed.
pub(super) trait Terms {
    type A: Copy;
    type B: Copy;
    type Operand: Copy;
    type Sum: Copy;
    const LANES: usize;
    /// Products that a step adds to a sum, one after the other.
    const COUNT: usize;

    unsafe fn zero() -> Self::Sum;
    unsafe fn read(from: *const f32) -> Self::Sum;
    unsafe fn write(to: *mut f32, sum: Self::Sum);
    /// `LANES` rows of the weight.
    unsafe fn load(from: *const Self::B, term: usize) -> Self::Operand;
    /// A row's share of a step, in every lane.
    unsafe fn splat(from: *const Self::A, term: usize) -> Self::Operand;
    unsafe fn add(a: Self::Operand, b: Self::Operand, sum: Self::Sum) -> Self::Sum;
}

pub(super) struct SingleTerms<S>(S);

impl<S: Simd> Terms for SingleTerms<S> {
    type A = f32;
    type B = f32;
    type Operand = S::Vector;
    type Sum = S::Vector;
    const LANES: usize = S::LANES;
    const COUNT: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> S::Vector {
        // SAFETY: the level's features, by the caller's promise, as in every method below.
        unsafe { S::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn read(from: *const f32) -> S::Vector {
        // SAFETY: see `zero`; readable by the caller's promise.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn write(to: *mut f32, sum: S::Vector) {
        // SAFETY: see `zero`; writable by the caller's promise.
        unsafe { S::store(to, sum) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32, _: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32, _: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::splat(*from) }
    }
    #[inline(always)]
    unsafe fn add(a: S::Vector, b: S::Vector, sum: S::Vector) -> S::Vector {
        // SAFETY: see `zero`.
        unsafe { S::mul_add(a, b, sum) }
    }
}

pub(super) struct WidenedTerms<S>(S);

impl<S: Simd> Terms for WidenedTerms<S> {
    type A = [f32; 2];
    type B = [bf16; 2];
    type Operand = S::Vector;
    type Sum = S::Vector;
    const LANES: usize = S::LANES;
    const COUNT: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> S::Vector {
        // SAFETY: the level's features, by the caller's promise, as in every method below.
        unsafe { S::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn read(from: *const f32) -> S::Vector {
        // SAFETY: see `zero`; readable by the caller's promise.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn write(to: *mut f32, sum: S::Vector) {
        // SAFETY: see `zero`; writable by the caller's promise.
        unsafe { S::store(to, sum) }
    }
    #[inline(always)]
    unsafe fn load(from: *const [bf16; 2], term: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::load_half(from, term) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const [f32; 2], term: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::splat((*from)[term]) }
    }
    #[inline(always)]
    unsafe fn add(a: S::Vector, b: S::Vector, sum: S::Vector) -> S::Vector {
        // SAFETY: see `zero`.
        unsafe { S::mul_add(a, b, sum) }
    }
}

dispatch! {
    /// # Safety
    /// As [`Kernel::block`].
    unsafe fn single_block(block: &Block<'_, f32, f32>, out: *mut f32) = single_body
}

#[inline(always)]
unsafe fn single_body<S: Simd>(block: &Block<'_, f32, f32>, out: *mut f32) {
    // SAFETY: the caller's promise is the same.
    unsafe { block_body::<SingleTerms<S>>(block, out) }
}

dispatch! {
    /// # Safety
    /// As [`Kernel::block`].
    unsafe fn widened_block(block: &Block<'_, [f32; 2], [bf16; 2]>, out: *mut f32) = widened_body
}

#[inline(always)]
unsafe fn widened_body<S: Simd>(block: &Block<'_, [f32; 2], [bf16; 2]>, out: *mut f32) {
    // SAFETY: the caller's promise is the same.
    unsafe { block_body::<WidenedTerms<S>>(block, out) }
}

/// Whether the processor multiplies bf16 itself.
pub(super) fn has_bf16_dot() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) type Dot = Widened;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Dot;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, Kernel, ROWS, Terms, block_body};
    use half::bf16;
    use std::arch::x86_64::{
        __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_storeu_ps,
    };
    use std::mem::transmute;

    /// bf16 by bf16, by AVX512-BF16.
    pub(crate) struct Dot;

    impl Kernel for Dot {
        type A = [u16; 2];
        type B = [bf16; 2];
        const STEP: usize = 2;

        #[target_feature(enable = "avx512f,avx512bw")]
        unsafe fn pack(x: &[f32], k: usize, to: &mut [[u16; 2]]) {
            for (row, x) in x.chunks(k).enumerate() {
                let (pairs, rest) = x.as_chunks::<2>();
                for (at, &[low, high]) in pairs.iter().enumerate() {
                    to[at * ROWS + row] = [round(low), round(high)];
                }
                if let &[last] = rest {
                    to[pairs.len() * ROWS + row] = [round(last), 0];
                }
            }
        }

        #[target_feature(enable = "avx512f,avx512bf16")]
        unsafe fn block(block: &Block<'_, [u16; 2], [bf16; 2]>, out: *mut f32) {
            // SAFETY: the features are those of this function; the rest is the caller's.
            unsafe { block_body::<DotTerms>(block, out) }
        }
    }

    /// To the nearest bf16, ties to even; not a number stays that.
    #[inline(always)]
    fn round(value: f32) -> u16 {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        if value.is_nan() { 0x7FC0 } else { rounded as u16 }
    }

    struct DotTerms;

    impl Terms for DotTerms {
        type A = [u16; 2];
        type B = [bf16; 2];
        type Operand = __m512bh;
        type Sum = __m512;
        const LANES: usize = 16;
        const COUNT: usize = 1;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: AVX512-BF16 by the caller's promise, as in every method below.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn read(from: *const f32) -> __m512 {
            // SAFETY: see `zero`; readable by the caller's promise.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn write(to: *mut f32, sum: __m512) {
            // SAFETY: see `zero`; writable by the caller's promise.
            unsafe { _mm512_storeu_ps(to, sum) }
        }
        #[inline(always)]
        unsafe fn load(from: *const [bf16; 2], _: usize) -> __m512bh {
            // SAFETY: see `read`; 16 pairs of bf16 are 64 bytes.
            unsafe { transmute(_mm512_loadu_si512(from.cast())) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const [u16; 2], _: usize) -> __m512bh {
            // SAFETY: see `read`; a pair of bf16 is 4 bytes.
            unsafe { transmute(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
            // SAFETY: see `zero`.
            unsafe { _mm512_dpbf16_ps(sum, a, b) }
        }
    }
}

/// Goes through a block in tiles: as wide as the registers hold, and at its edges one panel at a time.
#[inline(always)]
pub(super) unsafe fn block_body<T: Terms>(block: &Block<'_, T::A, T::B>, out: *mut f32) {
    let steps = block.depth.steps;
    let panels = block.weight.len() / (PANEL * steps);
    let mut begin = 0;
    while begin < steps {
        let count = STEPS_PER_PASS.min(steps - begin);
        for x_block in 0..block.rows.div_ceil(ROWS) {
            let x = block.x[(x_block * steps + begin) * ROWS..].as_ptr();
            let mut panel = 0;
            while panel < panels {
                let weight = &block.weight[(panel * steps + begin) * PANEL..];
                let place = Place {
                    row: x_block * ROWS,
                    column: block.first + panel * PANEL,
                    is_begun: begin > 0,
                };
                // SAFETY: the operands have `count` steps from here on; the rest is the caller's promise.
                unsafe {
                    if T::LANES == PANEL && panel + 4 <= panels {
                        let weight =
                            std::array::from_fn(|at| weight[at * steps * PANEL..].as_ptr());
                        sums::<T, 4>(block, x, weight, count, &place, out);
                        panel += 4;
                    } else if T::LANES == PANEL {
                        sums::<T, 1>(block, x, [weight.as_ptr()], count, &place, out);
                        panel += 1;
                    } else {
                        let halves = [weight.as_ptr(), weight[PANEL / 2..].as_ptr()];
                        sums::<T, 2>(block, x, halves, count, &place, out);
                        panel += 1;
                    }
                }
            }
        }
        begin += count;
    }
}

/// Where a tile's sums belong.
struct Place {
    /// Of `x`.
    row: usize,
    /// The weight's row.
    column: usize,
    /// Whether the sums of earlier steps are there.
    is_begun: bool,
}

/// One tile of `ROWS` rows and `V` vectors: into place if all of it is wanted, else by a copy.
#[inline(always)]
unsafe fn sums<T: Terms, const V: usize>(
    block: &Block<'_, T::A, T::B>,
    x: *const T::A,
    weight: [*const T::B; V],
    steps: usize,
    place: &Place,
    out: *mut f32,
) {
    let Place { row, column, is_begun } = *place;
    let chosen = block.chosen;
    let stride = chosen.len();
    let width = V * T::LANES;
    // SAFETY: what is read and written are the rows and columns of the caller's promise.
    unsafe {
        if row + ROWS <= block.rows && column >= chosen.start && column + width <= chosen.end {
            let to = out.add(row * stride + column - chosen.start);
            tile::<T, V>(x, weight, steps, to, stride, is_begun);
            return;
        }
        // The widest tile has four panels.
        let mut copy = [0.0f32; ROWS * 4 * PANEL];
        let rows = row..block.rows.min(row + ROWS);
        let columns = column.max(chosen.start)..chosen.end.min(column + width);
        let line = |row: usize| out.add(row * stride + columns.start - chosen.start);
        let shift = columns.start - column;
        if is_begun {
            for (at, row) in rows.clone().enumerate() {
                let to = copy.as_mut_ptr().add(at * width + shift);
                to.copy_from_nonoverlapping(line(row), columns.len());
            }
        }
        tile::<T, V>(x, weight, steps, copy.as_mut_ptr(), width, is_begun);
        for (at, row) in rows.enumerate() {
            let from = copy.as_ptr().add(at * width + shift);
            line(row).copy_from_nonoverlapping(from, columns.len());
        }
    }
}

/// Adds `steps` steps to the sums at `out`, or begins them.
#[inline(always)]
unsafe fn tile<T: Terms, const V: usize>(
    x: *const T::A,
    weight: [*const T::B; V],
    steps: usize,
    out: *mut f32,
    stride: usize,
    is_begun: bool,
) {
    // SAFETY: both operands have `steps` steps, `out` has `ROWS` rows of `V` vectors.
    unsafe {
        let mut sums = [[T::zero(); V]; ROWS];
        if is_begun {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = T::read(out.add(row * stride + at * T::LANES));
                }
            }
        }
        for step in 0..steps {
            let x = x.add(step * ROWS);
            for term in 0..T::COUNT {
                let operands: [T::Operand; V] =
                    std::array::from_fn(|at| T::load(weight[at].add(step * PANEL), term));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = T::splat(x.add(row), term);
                    for (sum, operand) in sums.iter_mut().zip(operands) {
                        *sum = T::add(x, operand, *sum);
                    }
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (at, sum) in sums.iter().enumerate() {
                T::write(out.add(row * stride + at * T::LANES), *sum);
            }
        }
    }
}
