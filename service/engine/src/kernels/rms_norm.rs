//! Root-mean-square norm of rows.

use super::f32_slice;
#[cfg(any(feature = "cuda", test))]
use super::launch::{Argument, Launch, form, row_threads};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Divides each row by its root mean square and scales it by `weight`.
///
/// - `x`: `[T, C]`, f32, contiguous
/// - `weight`: `[C]`, f32
///
/// Returns `[T, C]` in `activations`: f32 on the CPU, f32 or bf16 on a card. Squares are summed in f32.
///
/// # Errors
/// If the last dimensions differ or an operand is not contiguous f32.
///
/// Source: Zhang and Sennrich, arXiv:1910.07467.
pub(crate) fn rms_norm(
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
    activations: DType,
) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &RmsNorm { eps, activations })
}

/// `1 / sqrt(mean(x²) + eps)`; the order of the sum depends on the row's length alone.
pub(super) fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    let squares = lanes.iter().sum::<f32>() + rest;
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}

struct RmsNorm {
    eps: f32,
    activations: DType,
}

/// Rows and columns of `x`.
fn size(x: &Layout, weight: &Layout) -> Result<(usize, usize)> {
    let (rows, columns) = x.shape().dims2()?;
    if weight.shape().elem_count() != columns {
        bail!("rms_norm: rows of {columns}, weight of {:?}", weight.shape())
    }
    Ok((rows, columns))
}

#[cfg(any(feature = "cuda", test))]
impl RmsNorm {
    fn launch<B>(&self, (rows, columns): (usize, usize), buffers: [B; 3]) -> Result<Launch<B>> {
        let [x, weight, out] = buffers.map(Argument::Buffer);
        let columns_argument = Argument::Number(columns as u32);
        Ok(Launch {
            kernel: form(self.activations, ["rms_norm_f32", "rms_norm_bf16"])?,
            grid: [rows as u32, 1],
            threads: row_threads(columns),
            arguments: vec![x, weight, out, columns_argument, Argument::Float(self.eps)],
        })
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, columns) = size(x_layout, weight_layout)?;
        if self.activations != DType::F32 {
            bail!("rms_norm: activations are f32 on the CPU")
        }
        let x = f32_slice("rms_norm", x, x_layout)?;
        let weight = f32_slice("rms_norm", weight, weight_layout)?;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(columns).zip(x.par_chunks(columns)).with_min_len(32).for_each(
            |(out, x)| {
                let scale = inverse_rms(x, self.eps);
                for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                    *out = x * scale * weight;
                }
            },
        );
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        x_layout: &Layout,
        weight: &candle_core::CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use super::cuda::{contiguous, output, start};
        let size = size(x_layout, weight_layout)?;
        let device = &x.device;
        let x = contiguous("rms_norm", x, x_layout, DType::F32)?;
        let weight = contiguous("rms_norm", weight, weight_layout, DType::F32)?;
        let (storage, out) = output(device, x_layout.shape(), self.activations)?;
        // SAFETY: `x` and `out` have `size`, `weight` a value a column.
        unsafe { start(device, &self.launch(size, [x, weight, out])?) }?;
        Ok((storage, x_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::emulated::{Host, emulate};
    use crate::kernels::test_support::{assert_close, read, runs, values};
    use candle_core::Device;

    const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 17), (2, 264), (70, 80), (3, 2048)];

    fn naive(x: &[f32], weight: &[f32]) -> Vec<f32> {
        x.chunks(weight.len())
            .flat_map(|row| {
                let mean = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
                row.iter().zip(weight).map(move |(x, w)| x / (mean + 1e-6).sqrt() * w)
            })
            .collect()
    }

    /// Every layer runs through this twice; an error here shifts every score.
    #[test]
    fn equals_the_definition_on_odd_widths() -> Result<()> {
        for run in runs() {
            for (rows, columns) in SHAPES {
                let (x, weight) = (values(1, rows * columns), values(2, columns));
                let on_device = Tensor::from_slice(&x, (rows, columns), &run.device)?;
                let by = Tensor::from_slice(&weight, columns, &run.device)?;
                let found = read(&rms_norm(&on_device, &by, 1e-6, run.activations)?)?;
                assert_close(&found, &naive(&x, &weight), run.tolerance(1e-5));
            }
        }
        Ok(())
    }

    /// The card's kernel has indices of its own.
    #[test]
    fn the_kernel_equals_the_definition() -> Result<()> {
        for dtype in [DType::F32, DType::BF16] {
            for (rows, columns) in SHAPES {
                let (x, weight) = (values(1, rows * columns), values(2, columns));
                let mut host = Host::default();
                let buffers = [
                    host.push(&x, DType::F32),
                    host.push(&weight, DType::F32),
                    host.room(x.len(), dtype),
                ];
                let op = RmsNorm { eps: 1e-6, activations: dtype };
                let Some(found) = emulate(&op.launch((rows, columns), buffers)?, &host) else {
                    return Ok(());
                };
                let tolerance = if dtype == DType::BF16 { 1e-2 } else { 1e-5 };
                assert_close(&found.read(2), &naive(&x, &weight), tolerance);
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_what_has_no_form() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let weight = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
        assert!(rms_norm(&x, &weight, 1e-6, DType::F32).is_err());
        assert!(rms_norm(&x, &x.get(0)?, 1e-6, DType::BF16).is_err());
        Ok(())
    }
}
