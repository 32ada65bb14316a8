//! bf16 by bf16, by AVX512-BF16.

use super::float::Terms;
use super::pack::{PANEL, ROWS};
use super::tile::{Block, Kernel, block_body};
use half::bf16;
use std::arch::x86_64::{
    __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::mem::transmute;

/// Pairs of bf16; rows of `x` are rounded to it.
pub(super) struct Dot;

impl Dot {
    /// Whether the processor has it.
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
    }
}

impl Kernel for Dot {
    type A = [[u16; 2]; ROWS];
    type B = [[bf16; 2]; PANEL];
    const STEP: usize = 2;

    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pack(x: &[f32], k: usize, to: &mut [Self::A]) {
        for (row, x) in x.chunks(k).enumerate() {
            let (pairs, rest) = x.as_chunks::<2>();
            for (to, &[low, high]) in to.iter_mut().zip(pairs) {
                to[row] = [round(low), round(high)];
            }
            if let &[last] = rest {
                to[pairs.len()][row] = [round(last), 0];
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn block(block: &Block<'_, Self::A, Self::B>, out: *mut f32) {
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
    type A = [[u16; 2]; ROWS];
    type B = [[bf16; 2]; PANEL];
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
    unsafe fn load(from: *const Self::B, _: usize, _: usize) -> __m512bh {
        // SAFETY: see `read`; 16 pairs of bf16 are 64 bytes.
        unsafe { transmute(_mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const Self::A, row: usize, _: usize) -> __m512bh {
        // SAFETY: see `read`; a pair of bf16 is 4 bytes.
        unsafe {
            let pair = (*from).as_ptr().add(row).cast::<i32>().read_unaligned();
            transmute(_mm512_set1_epi32(pair))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
        // SAFETY: see `zero`.
        unsafe { _mm512_dpbf16_ps(sum, a, b) }
    }
}
