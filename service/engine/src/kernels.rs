//! The fused steps of the forward, one file an op; each is a candle `CustomOp` or `InplaceOp`.
//!
//! Owns all arithmetic that is not a plain copy or lookup. Knows nothing of layers, weights or
//! requests. The CPU and the CUDA form of an op stand in the same file, the source of its kernel beside it.
//!
//! Legend: `T` tokens (rows) of one call, `C` hidden size, `H` query heads, `Hk` key/value heads,
//! `D` head size, `I` MLP size.
//!
//! Activations are f32 on the CPU, whatever the type of the weights, and of the weights' type on a card. The
//! residual stream and all sums are f32.
//!
//! On the CPU every output row is computed by the same operations in the same order whatever other
//! rows are in the call, so a score does not depend on its batch, bit for bit. On a card this holds for all
//! ops but the products of cuBLAS.

#[expect(unsafe_code, reason = "SIMD and disjoint writes")]
mod attention;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "the driver's own calls")]
pub(crate) mod cards;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "kernels take addresses")]
mod cuda;
#[expect(unsafe_code, reason = "SIMD")]
mod dot;
#[cfg(test)]
mod emulated;
mod exp;
#[cfg(any(feature = "cuda", test))]
mod launch;
#[expect(unsafe_code, reason = "SIMD and disjoint writes")]
mod linear;
#[cfg_attr(feature = "cuda", expect(unsafe_code, reason = "kernels take addresses"))]
mod rms_norm;
#[cfg_attr(feature = "cuda", expect(unsafe_code, reason = "kernels take addresses"))]
mod rope;
#[expect(unsafe_code, reason = "SIMD")]
mod simd;
#[cfg_attr(feature = "cuda", expect(unsafe_code, reason = "kernels take addresses"))]
mod swiglu;

pub(crate) use attention::{Span, Spans, attention};
pub(crate) use linear::{Matrix, add_linear, linear, linear_rows};
pub(crate) use rms_norm::rms_norm;
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
mod test_support;
