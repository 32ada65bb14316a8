//! The levels of x86: AVX512-VNNI, and AVX2 by 16-bit products.

use super::{Bytes, Panel, QUAD, Rows, Whole, block_body, pack_body};
use crate::kernels::linear::tile::Block;
use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_cvtepi32_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_srli_epi16, _mm256_storeu_ps, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_avx512(x: &[f32], k: usize, to: &mut [Rows]) {
    pack_body(x, k, to);
}

#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack_avx2(x: &[f32], k: usize, to: &mut [Rows]) {
    pack_body(x, k, to);
}

pub(crate) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
}

/// # Safety
/// As [`super::Kernel::block`], on a processor that [`has_vnni`].
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn block_vnni(block: &Block<'_, Rows, Panel>, out: *mut f32) {
    // SAFETY: the features are those of this function; the rest is the caller's.
    unsafe { block_body::<Whole<Vnni>>(block, out) }
}

/// # Safety
/// As [`super::Kernel::block`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn block_avx2(block: &Block<'_, Rows, Panel>, out: *mut f32) {
    // SAFETY: the feature is that of this function; the rest is the caller's.
    unsafe { block_body::<Whole<Avx2>>(block, out) }
}

/// AVX512-VNNI.
pub(crate) struct Vnni;

impl Bytes for Vnni {
    const LANES: usize = 16;
    type Weights = __m512i;
    type Values = __m512i;
    type Sum = __m512i;

    #[inline(always)]
    unsafe fn splat(value: i32) -> __m512i {
        // SAFETY: AVX512-VNNI by the caller's promise, as in every method below.
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m512i {
        // SAFETY: see `splat`; readable by the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn values(from: [i8; QUAD]) -> __m512i {
        // SAFETY: see `splat`.
        unsafe { _mm512_set1_epi32(i32::from_ne_bytes(from.map(i8::cast_unsigned))) }
    }
    #[inline(always)]
    unsafe fn add(sum: __m512i, weights: __m512i, values: __m512i) -> __m512i {
        // SAFETY: see `splat`.
        unsafe { _mm512_dpbusd_epi32(sum, weights, values) }
    }
    #[inline(always)]
    unsafe fn finish(sum: __m512i, scales: *const u8, scale: f32, out: *mut f32, is_begun: bool) {
        // SAFETY: see `splat`; readable and writable by the caller's promise.
        unsafe {
            let scales = _mm512_mul_ps(_mm512_loadu_ps(scales.cast()), _mm512_set1_ps(scale));
            let begun = if is_begun { _mm512_loadu_ps(out) } else { _mm512_setzero_ps() };
            let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales);
            _mm512_storeu_ps(out, _mm512_add_ps(begun, sum));
        }
    }
}

/// AVX2: its products of bytes do not hold two full ones, those of 16-bit numbers do.
pub(crate) struct Avx2;

impl Bytes for Avx2 {
    const LANES: usize = 8;
    /// The even ones and the odd ones.
    type Weights = [__m256i; 2];
    type Values = [__m256i; 2];
    type Sum = __m256i;

    #[inline(always)]
    unsafe fn splat(value: i32) -> __m256i {
        // SAFETY: AVX2 by the caller's promise, as in every method below.
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> [__m256i; 2] {
        // SAFETY: see `splat`; readable by the caller's promise.
        unsafe {
            let both = _mm256_loadu_si256(from.cast());
            [_mm256_and_si256(both, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16::<8>(both)]
        }
    }
    #[inline(always)]
    unsafe fn values(from: [i8; QUAD]) -> [__m256i; 2] {
        // SAFETY: see `splat`.
        unsafe {
            let both = _mm256_set1_epi32(i32::from_ne_bytes(from.map(i8::cast_unsigned)));
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(both)), _mm256_srai_epi16::<8>(both)]
        }
    }
    #[inline(always)]
    unsafe fn add(sum: __m256i, weights: [__m256i; 2], values: [__m256i; 2]) -> __m256i {
        // SAFETY: see `splat`.
        unsafe {
            let even = _mm256_madd_epi16(weights[0], values[0]);
            let odd = _mm256_madd_epi16(weights[1], values[1]);
            _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
        }
    }
    #[inline(always)]
    unsafe fn finish(sum: __m256i, scales: *const u8, scale: f32, out: *mut f32, is_begun: bool) {
        // SAFETY: see `splat`; readable and writable by the caller's promise.
        unsafe {
            let scales = _mm256_mul_ps(_mm256_loadu_ps(scales.cast()), _mm256_set1_ps(scale));
            let begun = if is_begun { _mm256_loadu_ps(out) } else { _mm256_setzero_ps() };
            let sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scales);
            _mm256_storeu_ps(out, _mm256_add_ps(begun, sum));
        }
    }
}
