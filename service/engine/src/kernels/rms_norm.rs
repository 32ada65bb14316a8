//! Root-mean-square norm of rows, alone and after a residual sum.

use super::f32_slice;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Divides each row by its root mean square and scales it by `weight`.
///
/// - `x`: `[T, C]`, f32, contiguous
/// - `weight`: `[C]`, f32
///
/// Returns `[T, C]`. Squares are summed in f32.
///
/// # Errors
/// If the last dimensions differ or an operand is not contiguous f32.
///
/// Source: Zhang and Sennrich, arXiv:1910.07467.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &RmsNorm { eps })
}

/// Adds `delta` to `residual` and norms the sum: the step between two blocks of a layer.
///
/// - `residual`, `delta`: `[T, C]`, f32, contiguous
/// - `weight`: `[C]`, f32
///
/// Returns `[2, T, C]`: the sum, then its norm as [`rms_norm`] gives it.
///
/// # Errors
/// As [`rms_norm`]; also if the shapes of `residual` and `delta` differ.
pub(crate) fn add_rms_norm(
    residual: &Tensor,
    delta: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<Tensor> {
    residual.apply_op3_no_bwd(delta, weight, &AddRmsNorm { eps })
}

/// `out = x / sqrt(mean(x²) + eps) * weight`, one row; the order of the sum depends on the row's
/// length alone.
pub(super) fn norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = inverse_rms(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// `1 / sqrt(mean(x²) + eps)`.
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
        let (_, columns) = x_layout.shape().dims2()?;
        let x = f32_slice("rms_norm", x, x_layout)?;
        let weight = f32_slice("rms_norm", weight, weight_layout)?;
        if weight.len() != columns {
            bail!("rms_norm: rows of {columns}, weight of {}", weight.len())
        }
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(columns)
            .zip(x.par_chunks(columns))
            .with_min_len(32)
            .for_each(|(out, x)| norm_row(x, weight, self.eps, out));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct AddRmsNorm {
    eps: f32,
}

impl CustomOp3 for AddRmsNorm {
    fn name(&self) -> &'static str {
        "add_rms_norm"
    }

    fn cpu_fwd(
        &self,
        residual: &CpuStorage,
        residual_layout: &Layout,
        delta: &CpuStorage,
        delta_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = residual_layout.shape().dims2()?;
        if delta_layout.shape() != residual_layout.shape() {
            bail!("add_rms_norm: {:?} + {:?}", residual_layout.shape(), delta_layout.shape())
        }
        let residual = f32_slice("add_rms_norm", residual, residual_layout)?;
        let delta = f32_slice("add_rms_norm", delta, delta_layout)?;
        let weight = f32_slice("add_rms_norm", weight, weight_layout)?;
        if weight.len() != columns {
            bail!("add_rms_norm: rows of {columns}, weight of {}", weight.len())
        }
        let mut out = vec![0.0; 2 * residual.len()];
        let (sums, norms) = out.split_at_mut(residual.len());
        sums.par_chunks_mut(columns)
            .zip(norms.par_chunks_mut(columns))
            .zip(residual.par_chunks(columns).zip(delta.par_chunks(columns)))
            .with_min_len(32)
            .for_each(|((sum, norm), (residual, delta))| {
                for ((sum, residual), delta) in sum.iter_mut().zip(residual).zip(delta) {
                    *sum = residual + delta;
                }
                norm_row(sum, weight, self.eps, norm);
            });
        Ok((CpuStorage::F32(out), (2, rows, columns).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::test_support::{assert_close, values};
    use candle_core::Device;

    /// Every layer runs through this twice; an error here shifts every score.
    #[test]
    fn equals_the_definition_on_odd_widths() -> Result<()> {
        for (rows, columns) in [(1, 1), (3, 17), (70, 80)] {
            let x = values(1, rows * columns);
            let delta = values(2, rows * columns);
            let weight = values(3, columns);
            let sum: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
            let expected: Vec<f32> = sum
                .chunks(columns)
                .flat_map(|row| {
                    let mean = row.iter().map(|x| x * x).sum::<f32>() / columns as f32;
                    row.iter().zip(&weight).map(move |(x, w)| x / (mean + 1e-6).sqrt() * w)
                })
                .collect();
            let tensor = |v: &[f32]| Tensor::from_slice(v, (rows, columns), &Device::Cpu);
            let weight = Tensor::from_slice(&weight, columns, &Device::Cpu)?;
            let fused = add_rms_norm(&tensor(&x)?, &tensor(&delta)?, &weight, 1e-6)?;
            let alone = rms_norm(&tensor(&sum)?, &weight, 1e-6)?;
            assert_close(&fused.get(0)?.flatten_all()?.to_vec1()?, &sum, 0.0);
            assert_close(&fused.get(1)?.flatten_all()?.to_vec1()?, &expected, 1e-5);
            assert_close(&alone.flatten_all()?.to_vec1()?, &expected, 1e-5);
        }
        Ok(())
    }
}
