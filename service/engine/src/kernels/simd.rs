//! Vectors of f32 as wide as the processor has them, chosen at run time.
//!
//! [`dispatch!`] compiles a generic body once per level and calls the best one the processor runs.

use half::bf16;

/// A vector of `LANES` f32 values.
///
/// # Safety
///
/// Methods may only run on processors with the level's features; [`dispatch!`] sees to it.
/// Pointers must be readable for `LANES` values or pairs.
pub(super) trait Simd {
    const LANES: usize;
    type Vector: Copy;
    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// Of `LANES` pairs of bf16 the earlier ones (`which` is 0) or the later ones, widened.
    unsafe fn load_half(from: *const [bf16; 2], which: usize) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// `a * b + c`
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The sum of all lanes, in one fixed order.
    unsafe fn sum(vector: Self::Vector) -> f32;
}

/// Eight lanes in plain Rust, for processors without a level of their own.
pub(super) struct Portable;

impl Simd for Portable {
    const LANES: usize = 8;
    type Vector = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: readable for 8 values by the trait's contract.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const [bf16; 2], which: usize) -> [f32; 8] {
        // SAFETY: readable for 8 pairs by the trait's contract.
        unsafe { from.cast::<[[bf16; 2]; 8]>().read_unaligned() }.map(|pair| pair[which].to_f32())
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; 8]) {
        // SAFETY: writable for 8 values by the caller's promise.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(vector) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sum(vector: [f32; 8]) -> f32 {
        let [a, b, c, d, e, f, g, h] = vector;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::Simd;
    use half::bf16;
    use std::arch::x86_64::{
        __m256, __m512, _mm_add_ps, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_and_si256,
        _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps,
        _mm512_slli_epi32, _mm512_storeu_ps,
    };

    const UPPER_HALF: i32 = 0xFFFF_0000_u32 as i32;

    /// AVX2 and FMA.
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        const LANES: usize = 8;
        type Vector = __m256;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            // SAFETY: AVX2 by the trait's contract, as in every method below.
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            // SAFETY: see `splat`; the pointer is readable by the trait's contract.
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_half(from: *const [bf16; 2], which: usize) -> __m256 {
            // SAFETY: see `load`. A bf16 is the upper half of its f32.
            unsafe {
                let pairs = _mm256_loadu_si256(from.cast());
                _mm256_castsi256_ps(if which == 0 {
                    _mm256_slli_epi32::<16>(pairs)
                } else {
                    _mm256_and_si256(pairs, _mm256_set1_epi32(UPPER_HALF))
                })
            }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m256) {
            // SAFETY: see `splat`; writable by the caller's promise.
            unsafe { _mm256_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: see `splat`.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(vector: __m256) -> f32 {
            // SAFETY: see `splat`.
            unsafe {
                let four =
                    _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ps(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    /// AVX-512 F.
    pub(crate) struct Avx512;

    impl Simd for Avx512 {
        const LANES: usize = 16;
        type Vector = __m512;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            // SAFETY: AVX-512 F by the trait's contract, as in every method below.
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            // SAFETY: see `splat`; the pointer is readable by the trait's contract.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn load_half(from: *const [bf16; 2], which: usize) -> __m512 {
            // SAFETY: see `load`. A bf16 is the upper half of its f32.
            unsafe {
                let pairs = _mm512_loadu_si512(from.cast());
                _mm512_castsi512_ps(if which == 0 {
                    _mm512_slli_epi32::<16>(pairs)
                } else {
                    _mm512_and_si512(pairs, _mm512_set1_epi32(UPPER_HALF))
                })
            }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            // SAFETY: see `splat`; writable by the caller's promise.
            unsafe { _mm512_storeu_ps(to, vector) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see `splat`.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn sum(vector: __m512) -> f32 {
            // SAFETY: see `splat`.
            unsafe { _mm512_reduce_add_ps(vector) }
        }
    }
}

/// Defines `fn $name(args)` that runs `$body::<Level, ..>(args)` at the processor's best level.
///
/// The body must be `#[inline(always)]` and `unsafe` for the reasons [`Simd`] gives.
macro_rules! dispatch {
    ($(#[$doc:meta])* unsafe fn $name:ident $(<$($generic:ident : $bound:path),+>)? ($($arg:ident : $type:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        unsafe fn $name $(<$($generic: $bound),+>)? ($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use crate::kernels::simd::x86::{Avx2, Avx512};

                #[target_feature(enable = "avx512f")]
                unsafe fn avx512 $(<$($generic: $bound),+>)? ($($arg: $type),*) {
                    // SAFETY: the features are those of this function; the rest is the caller's.
                    unsafe { $body::<Avx512 $($(, $generic)+)?>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2 $(<$($generic: $bound),+>)? ($($arg: $type),*) {
                    // SAFETY: the features are those of this function; the rest is the caller's.
                    unsafe { $body::<Avx2 $($(, $generic)+)?>($($arg),*) }
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    // SAFETY: the feature was just detected.
                    return unsafe { avx512($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: the features were just detected.
                    return unsafe { avx2($($arg),*) };
                }
            }
            // SAFETY: the portable level needs no feature; the rest is the caller's.
            unsafe { $body::<crate::kernels::simd::Portable $($(, $generic)+)?>($($arg),*) }
        }
    };
}
pub(super) use dispatch;
