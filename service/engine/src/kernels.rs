//! The fused steps of the forward, one file an op; each is a candle `CustomOp` or `InplaceOp`.
//!
//! Owns all arithmetic that is not a plain copy or lookup. Knows nothing of layers, weights or
//! requests. The CPU form of every op stands beside the place of its CUDA form (`cuda_fwd`).
//!
//! Legend: `T` tokens (rows) of one call, `C` hidden size, `H` query heads, `Hk` key/value heads,
//! `D` head size, `I` MLP size.
//!
//! Activations are f32 on the CPU, whatever the type of the weights; sums are f32. Every output
//! row is computed by the same operations in the same order whatever other rows are in the call,
//! so a score does not depend on its batch, bit for bit.

#[expect(unsafe_code, reason = "SIMD and disjoint writes")]
mod attention;
#[expect(unsafe_code, reason = "SIMD")]
mod dot;
mod exp;
#[expect(unsafe_code, reason = "SIMD and disjoint writes")]
mod linear;
mod rms_norm;
mod rope;
#[expect(unsafe_code, reason = "SIMD")]
mod simd;
mod swiglu;

pub(crate) use attention::{Span, attention};
pub(crate) use linear::{Matrix, linear, linear_rows};
pub(crate) use rms_norm::{add_rms_norm, rms_norm};
pub(crate) use rope::{HeadLayout, qk_norm_rope};
pub(crate) use swiglu::silu_mul;

use candle_core::{CpuStorage, Layout, Result, bail};

/// The contiguous f32 values of an operand.
fn f32_slice<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("{op}: operand is not contiguous: {layout:?}")
    };
    match storage {
        CpuStorage::F32(values) => Ok(&values[start..end]),
        other => bail!("{op}: operand is not f32 but {:?}", dtype(other)),
    }
}

fn dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// An output shared by tasks that write disjoint parts of it.
struct Target {
    first: *mut f32,
    len: usize,
}

#[expect(unsafe_code, reason = "tasks of one product write one output")]
// SAFETY: the pointer is only written through, by tasks that each own their part.
unsafe impl Sync for Target {}

impl Target {
    fn new(out: &mut [f32]) -> Self {
        Self { first: out.as_mut_ptr(), len: out.len() }
    }

    /// A pointer to the value at `offset`, which must lie inside the output.
    fn at(&self, offset: usize) -> *mut f32 {
        assert!(offset < self.len, "offset {offset} in an output of {}", self.len);
        self.first.wrapping_add(offset)
    }
}

#[cfg(test)]
mod test_support {
    /// `count` values in -1..1, the same for the same `seed`.
    pub(super) fn values(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .take(count)
        .collect()
    }

    #[track_caller]
    pub(super) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let allowed = tolerance * expected.abs().max(1.0);
            assert!((found - expected).abs() <= allowed, "at {i}: {found}, expected {expected}");
        }
    }
}
