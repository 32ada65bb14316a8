//! `y = x Wᵀ`: every matrix product of the model.
//!
//! Weights are packed once, at load, into panels of [`PANEL`] rows with `K` outermost; a call packs its
//! rows of `x` likewise. A [`tile`] then keeps its sums in registers and reads both
//! in the order in which they lie in memory.

mod add;
#[cfg(target_arch = "x86_64")]
mod bf16;
#[cfg(feature = "cuda")]
mod cuda;
mod float;
mod pack;
mod q8;
mod tile;

pub(crate) use add::add_linear;

use super::{Target, dtype, f32_slice};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use float::{Single, Widened};
use pack::PANEL;
use q8::Quantised;
use rayon::prelude::*;
use std::ops::Range;
use tile::{Block, Kernel};

/// A weight matrix, packed for the products of its device.
#[derive(Debug)]
pub(crate) struct Matrix {
    /// `[N, K]` as it was on a card.
    packed: Tensor,
    rows: usize,
    columns: usize,
}

impl Matrix {
    /// Packs `weight`: `[N, K]`, f32 or bf16, contiguous.
    ///
    /// # Errors
    /// If it has another shape or type.
    pub(crate) fn new(weight: &Tensor) -> Result<Self> {
        let (rows, columns) = weight.dims2()?;
        let packed =
            if weight.device().is_cpu() { weight.apply_op1_no_bwd(&Pack)? } else { weight.clone() };
        Ok(Self { packed, rows, columns })
    }

    /// As [`Matrix::new`], to 8 bits a weight with a scale for every 128 of a row.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn quantised(weight: &Tensor) -> Result<Self> {
        let (rows, columns) = weight.dims2()?;
        Ok(Self { packed: weight.apply_op1_no_bwd(&Quantise)?, rows, columns })
    }
}

/// Multiplies each row of `x` by every row of `weight`.
///
/// - `x`: `[T, K]`, f32, contiguous
/// - `weight`: `[N, K]`
///
/// Returns `[T, N]`, f32. Each value is summed in f32 over ascending `K`, whatever `T` and `N` are. Where
/// the processor multiplies bf16 itself (AVX512-BF16), `x` is rounded to the type of bf16 weights; else
/// they are widened in registers. For quantised weights `x` is quantised likewise.
///
/// On a card `x` has the type of `weight`, and so have the results, which are cuBLAS's: in f32 sums, whose
/// order may change with `T`.
///
/// # Errors
/// If the inner dimensions differ or `x` is not contiguous.
pub(crate) fn linear(x: &Tensor, weight: &Matrix) -> Result<Tensor> {
    linear_rows(x, weight, 0..weight.rows)
}

/// As [`linear`], by the rows `chosen` of `weight` only: `[T, chosen]`, the same values.
///
/// # Errors
/// Also if there are no such rows.
pub(crate) fn linear_rows(x: &Tensor, weight: &Matrix, chosen: Range<usize>) -> Result<Tensor> {
    let Matrix { rows, columns, .. } = *weight;
    if chosen.start > chosen.end || chosen.end > rows {
        bail!("linear: rows {chosen:?} of a matrix of {rows}")
    }
    x.apply_op2_no_bwd(&weight.packed, &Linear { chosen, k: columns })
}

struct Pack;

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "pack"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, k) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("pack: `weight` is not contiguous")
        };
        Ok(match weight {
            CpuStorage::F32(w) => flat(pack::weights(&w[start..end], k, 1), CpuStorage::F32),
            CpuStorage::BF16(w) => flat(pack::weights(&w[start..end], k, 2), CpuStorage::BF16),
            other => bail!("pack: no product with {:?} weights", dtype(other)),
        })
    }
}

struct Quantise;

impl CustomOp1 for Quantise {
    fn name(&self) -> &'static str {
        "quantise"
    }

    fn cpu_fwd(&self, weight: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, k) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("quantise: `weight` is not contiguous")
        };
        let packed = match weight {
            CpuStorage::F32(w) => q8::quantise(&w[start..end], k, |value| value),
            CpuStorage::BF16(w) => q8::quantise(&w[start..end], k, half::bf16::to_f32),
            other => bail!("quantise: {:?} weights are not read", dtype(other)),
        };
        Ok(flat(packed, CpuStorage::U8))
    }
}

fn flat<T>(packed: Vec<T>, storage: impl Fn(Vec<T>) -> CpuStorage) -> (CpuStorage, Shape) {
    let shape = packed.len().into();
    (storage(packed), shape)
}

struct Linear {
    chosen: Range<usize>,
    k: usize,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, k) = x_layout.shape().dims2()?;
        if k != self.k {
            bail!("linear: `x` has {k} columns, `weight` {}", self.k)
        }
        let Some((start, end)) = weight_layout.contiguous_offsets() else {
            bail!("linear: `weight` is not contiguous")
        };
        let x = f32_slice("linear", x, x_layout)?;
        let chosen = &self.chosen;
        let mut out = vec![0.0; rows * chosen.len()];
        match weight {
            CpuStorage::F32(w) => {
                product::<Single>(x, w[start..end].as_chunks().0, k, chosen, &mut out);
            }
            CpuStorage::BF16(w) => {
                let steps = pack::pairs(&w[start..end]);
                #[cfg(target_arch = "x86_64")]
                if bf16::Dot::is_there() {
                    product::<bf16::Dot>(x, steps, k, chosen, &mut out);
                    return Ok((CpuStorage::F32(out), (rows, chosen.len()).into()));
                }
                product::<Widened>(x, steps, k, chosen, &mut out);
            }
            CpuStorage::U8(w) => {
                product::<Quantised>(x, w[start..end].as_chunks().0, k, chosen, &mut out);
            }
            other => bail!("linear: no product with {:?} weights", dtype(other)),
        }
        Ok((CpuStorage::F32(out), (rows, chosen.len()).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        x_layout: &Layout,
        weight: &candle_core::CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.on_card((x, x_layout), (weight, weight_layout))
    }
}

/// Panels that one task goes through: as many as a tile holds at the widest.
const TASK_PANELS: usize = 4;
/// Multiplications under which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 16;

fn product<K: Kernel>(
    x: &[f32],
    weight: &[K::B],
    k: usize,
    chosen: &Range<usize>,
    out: &mut [f32],
) {
    if k == 0 || out.is_empty() {
        return;
    }
    let steps = k.div_ceil(K::STEP);
    let rows = x.len() / k;
    let is_small = rows * chosen.len() * k < PARALLEL_FROM;
    let x = pack::rows::<K>(x, k, is_small);
    let target = Target::new(out);
    let panels = chosen.start / PANEL..chosen.end.div_ceil(PANEL);
    let task = |index: usize| {
        let first = panels.start + index * TASK_PANELS;
        let count = TASK_PANELS.min(panels.end - first);
        let weight = &weight[first * steps..][..count * steps];
        let block = Block { x: &x, rows, weight, first: first * PANEL, chosen, steps };
        // SAFETY: tasks have panels of their own, so no two write the same column; `out` has a row of
        // `chosen` for every row of `x`.
        unsafe { K::block(&block, target.at(0)) }
    };
    let tasks = panels.len().div_ceil(TASK_PANELS);
    if is_small {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

#[cfg(test)]
mod tests;
