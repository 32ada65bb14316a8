//! SiLU of the gate times the up projection.

use super::exp::exp;
use super::f32_slice;
#[cfg(any(feature = "cuda", test))]
use super::launch::{Argument, Launch, form, row_threads};
#[cfg(any(feature = "cuda", test))]
use candle_core::DType;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `silu(gate) * up` over the merged projection.
///
/// - `gate_up`: `[T, 2 I]`, contiguous: gate first, then up; f32 on the CPU, f32 or bf16 on a card
///
/// Returns `[T, I]` of the same type.
///
/// # Errors
/// If the width is odd or the operand is not contiguous f32.
///
/// Source: Shazeer, arXiv:2002.05202.
pub(crate) fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    gate_up.apply_op1_no_bwd(&SiluMul)
}

struct SiluMul;

/// Rows, and the width of each half.
fn halves(layout: &Layout) -> Result<(usize, usize)> {
    let (rows, columns) = layout.shape().dims2()?;
    if columns == 0 || columns % 2 != 0 {
        bail!("silu_mul: no halves in a width of {columns}")
    }
    Ok((rows, columns / 2))
}

#[cfg(any(feature = "cuda", test))]
fn launch<B>((rows, width): (usize, usize), dtype: DType, buffers: [B; 2]) -> Result<Launch<B>> {
    let [gate_up, out] = buffers.map(Argument::Buffer);
    Ok(Launch {
        kernel: form(dtype, ["silu_mul_f32", "silu_mul_bf16"])?,
        grid: [rows as u32, 1],
        threads: row_threads(width),
        arguments: vec![gate_up, out, Argument::Number(width as u32)],
    })
}

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu_mul"
    }

    fn cpu_fwd(&self, gate_up: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = halves(layout)?;
        let gate_up = f32_slice("silu_mul", gate_up, layout)?;
        let mut out = vec![0.0; rows * width];
        out.par_chunks_mut(width).zip(gate_up.par_chunks(2 * width)).with_min_len(8).for_each(
            |(out, row)| {
                let (gate, up) = row.split_at(width);
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate / (1.0 + exp(-gate)) * up;
                }
            },
        );
        Ok((CpuStorage::F32(out), (rows, width).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        gate_up: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use super::cuda::{contiguous, output, start};
        use candle_core::backend::BackendStorage;
        let size = halves(layout)?;
        let (device, dtype, shape) = (&gate_up.device, gate_up.dtype(), Shape::from(size));
        let gate_up = contiguous("silu_mul", gate_up, layout, dtype)?;
        let (storage, out) = output(device, &shape, dtype)?;
        // SAFETY: the buffers have `size`, the first both halves.
        unsafe { start(device, &launch(size, dtype, [gate_up, out])?) }?;
        Ok((storage, shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::emulated::{Host, emulate};
    use crate::kernels::test_support::{assert_close, read, runs, values};

    /// Rows and widths; the values reach the ends of the exponential.
    fn inputs() -> impl Iterator<Item = (usize, usize, Vec<f32>)> {
        [(2, 3), (1, 1), (3, 16), (2, 520)].into_iter().map(|(rows, width)| {
            let gate_up = values(1, rows * 2 * width).iter().map(|value| value * 100.0).collect();
            (rows, width, gate_up)
        })
    }

    fn naive(gate_up: &[f32], width: usize) -> Vec<f32> {
        gate_up
            .chunks(2 * width)
            .flat_map(|row| (0..width).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[width + i]))
            .collect()
    }

    /// Swapped halves or a wrong sign would still look like a plausible score.
    #[test]
    fn equals_the_definition() -> Result<()> {
        for run in runs() {
            for (rows, width, mut gate_up) in inputs() {
                let on_device = run.activations(&mut gate_up, (rows, 2 * width))?;
                let found = read(&silu_mul(&on_device)?)?;
                assert_close(&found, &naive(&gate_up, width), run.tolerance(1e-6));
            }
        }
        Ok(())
    }

    /// The card's kernel has indices of its own.
    #[test]
    fn the_kernel_equals_the_definition() -> Result<()> {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::BF16, 2e-2)] {
            for (rows, width, gate_up) in inputs() {
                let mut host = Host::default();
                let buffers = [host.push(&gate_up, dtype), host.room(rows * width, dtype)];
                let gate_up = host.read(0);
                let Some(found) = emulate(&launch((rows, width), dtype, buffers)?, &host) else {
                    return Ok(());
                };
                assert_close(&found.read(1), &naive(&gate_up, width), tolerance);
            }
        }
        Ok(())
    }
}
