//! SiLU of the gate times the up projection.

use super::exp::exp;
use super::f32_slice;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `silu(gate) * up` over the merged projection.
///
/// - `gate_up`: `[T, 2 I]`, f32, contiguous: gate first, then up
///
/// Returns `[T, I]`.
///
/// # Errors
/// If the width is odd or the operand is not contiguous f32.
///
/// Source: Shazeer, arXiv:2002.05202.
pub(crate) fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    gate_up.apply_op1_no_bwd(&SiluMul)
}

struct SiluMul;

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu_mul"
    }

    fn cpu_fwd(&self, gate_up: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        if columns == 0 || columns % 2 != 0 {
            bail!("silu_mul: no halves in a width of {columns}")
        }
        let width = columns / 2;
        let gate_up = f32_slice("silu_mul", gate_up, layout)?;
        let mut out = vec![0.0; rows * width];
        out.par_chunks_mut(width).zip(gate_up.par_chunks(columns)).with_min_len(8).for_each(
            |(out, row)| {
                let (gate, up) = row.split_at(width);
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate / (1.0 + exp(-gate)) * up;
                }
            },
        );
        Ok((CpuStorage::F32(out), (rows, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::test_support::assert_close;
    use candle_core::Device;

    /// Swapped halves or a wrong sign would still look like a plausible score.
    #[test]
    fn equals_the_definition() -> Result<()> {
        let gate_up = Tensor::from_vec(
            vec![1.0f32, -2.0, 0.0, 3.0, 5.0, 7.0, 100.0, -100.0, 0.5, 2.0, 3.0, 4.0],
            (2, 6),
            &Device::Cpu,
        )?;
        let silu = |x: f32| x / (1.0 + (-x).exp());
        let expected = [
            silu(1.0) * 3.0,
            silu(-2.0) * 5.0,
            0.0,
            silu(100.0) * 2.0,
            silu(-100.0) * 3.0,
            silu(0.5) * 4.0,
        ];
        assert_close(&silu_mul(&gate_up)?.flatten_all()?.to_vec1()?, &expected, 1e-6);
        Ok(())
    }
}
