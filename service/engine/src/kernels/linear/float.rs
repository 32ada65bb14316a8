//! Products by multiply-add: f32 by f32, and f32 by bf16 that is widened in registers.

use super::pack::{PANEL, ROWS};
use super::tile::{Block, Kernel, Level, block_body};
use crate::kernels::simd::{Simd, dispatch};
use half::bf16;

/// f32 by f32.
pub(super) struct Single;

impl Kernel for Single {
    type A = [f32; ROWS];
    type B = [f32; PANEL];
    const STEP: usize = 1;

    unsafe fn pack(x: &[f32], k: usize, to: &mut [Self::A]) {
        for (row, x) in x.chunks(k).enumerate() {
            for (to, value) in to.iter_mut().zip(x) {
                to[row] = *value;
            }
        }
    }
    unsafe fn block(block: &Block<'_, Self::A, Self::B>, out: *mut f32) {
        // SAFETY: the caller's promise is the same.
        unsafe { single_block(block, out) }
    }
}

/// f32 by bf16, of which a step has two.
pub(super) struct Widened;

impl Kernel for Widened {
    type A = [[f32; 2]; ROWS];
    type B = [[bf16; 2]; PANEL];
    const STEP: usize = 2;

    unsafe fn pack(x: &[f32], k: usize, to: &mut [Self::A]) {
        for (row, x) in x.chunks(k).enumerate() {
            for (to, values) in to.iter_mut().zip(x.chunks(2)) {
                to[row] = [values[0], values.get(1).copied().unwrap_or(0.0)];
            }
        }
    }
    unsafe fn block(block: &Block<'_, Self::A, Self::B>, out: *mut f32) {
        // SAFETY: the caller's promise is the same.
        unsafe { widened_block(block, out) }
    }
}

/// How a level multiplies what is packed, a vector of the weight by one value of a row.
pub(super) trait Terms {
    type A;
    type B;
    type Operand: Copy;
    type Sum: Copy;
    const LANES: usize;
    /// Products that a step adds to a sum, one after the other.
    const COUNT: usize;

    unsafe fn zero() -> Self::Sum;
    unsafe fn read(from: *const f32) -> Self::Sum;
    unsafe fn write(to: *mut f32, sum: Self::Sum);
    /// `LANES` rows of the weight from row `lane` on.
    unsafe fn load(from: *const Self::B, lane: usize, term: usize) -> Self::Operand;
    /// A row's share of a step, in every lane.
    unsafe fn splat(from: *const Self::A, row: usize, term: usize) -> Self::Operand;
    unsafe fn add(a: Self::Operand, b: Self::Operand, sum: Self::Sum) -> Self::Sum;
}

pub(super) struct SingleTerms<S>(S);

impl<S: Simd> Terms for SingleTerms<S> {
    type A = [f32; ROWS];
    type B = [f32; PANEL];
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
    unsafe fn load(from: *const Self::B, lane: usize, _: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::load((*from).as_ptr().add(lane)) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const Self::A, row: usize, _: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::splat((*from)[row]) }
    }
    #[inline(always)]
    unsafe fn add(a: S::Vector, b: S::Vector, sum: S::Vector) -> S::Vector {
        // SAFETY: see `zero`.
        unsafe { S::mul_add(a, b, sum) }
    }
}

pub(super) struct WidenedTerms<S>(S);

impl<S: Simd> Terms for WidenedTerms<S> {
    type A = [[f32; 2]; ROWS];
    type B = [[bf16; 2]; PANEL];
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
    unsafe fn load(from: *const Self::B, lane: usize, term: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::load_half((*from).as_ptr().add(lane), term) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const Self::A, row: usize, term: usize) -> S::Vector {
        // SAFETY: see `read`.
        unsafe { S::splat((*from)[row][term]) }
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
    unsafe fn single_block(
        block: &Block<'_, [f32; ROWS], [f32; PANEL]>,
        out: *mut f32,
    ) = single_body
}

#[inline(always)]
unsafe fn single_body<S: Simd>(block: &Block<'_, [f32; ROWS], [f32; PANEL]>, out: *mut f32) {
    // SAFETY: the caller's promise is the same.
    unsafe { block_body::<SingleTerms<S>>(block, out) }
}

dispatch! {
    /// # Safety
    /// As [`Kernel::block`].
    unsafe fn widened_block(
        block: &Block<'_, [[f32; 2]; ROWS], [[bf16; 2]; PANEL]>,
        out: *mut f32,
    ) = widened_body
}

#[inline(always)]
unsafe fn widened_body<S: Simd>(
    block: &Block<'_, [[f32; 2]; ROWS], [[bf16; 2]; PANEL]>,
    out: *mut f32,
) {
    // SAFETY: the caller's promise is the same.
    unsafe { block_body::<WidenedTerms<S>>(block, out) }
}

impl<T: Terms> Level for T {
    type A = T::A;
    type B = T::B;
    const LANES: usize = T::LANES;
    const PASS: usize = 512;

    #[inline(always)]
    unsafe fn tile<const V: usize>(
        x: *const T::A,
        weight: [(*const T::B, usize); V],
        steps: usize,
        out: *mut f32,
        stride: usize,
        is_begun: bool,
    ) {
        // SAFETY: what is read and written are the steps, rows and vectors of the caller's promise.
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
                for term in 0..T::COUNT {
                    let operands = weight.map(|(panel, lane)| T::load(panel.add(step), lane, term));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = T::splat(x.add(step), row, term);
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
}
