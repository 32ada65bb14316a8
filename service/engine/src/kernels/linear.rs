//! `y = x Wᵀ`: every matrix product of the model.

use super::dot::{Rows, dot_products};
use super::simd::{Simd, Weight, dispatch};
use super::{Target, dtype, f32_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Multiplies each row of `x` by every row of `weight`.
///
/// - `x`: `[T, K]`, f32, contiguous
/// - `weight`: `[N, K]`, f32 or bf16, contiguous; bf16 is widened in registers, never in memory
///
/// Returns `[T, N]`, f32. Each value is summed in f32 over ascending `K`, a vector's lanes apart,
/// whatever `T` and `N` are.
///
/// # Errors
/// If the inner dimensions differ, an operand is not contiguous, or its type is another.
pub(crate) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &Linear)
}

struct Linear;

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
        let (columns, weight_k) = weight_layout.shape().dims2()?;
        if k != weight_k {
            bail!("linear: `x` has {k} columns, `weight` {weight_k}")
        }
        let Some((start, end)) = weight_layout.contiguous_offsets() else {
            bail!("linear: `weight` is not contiguous")
        };
        let x = f32_slice("linear", x, x_layout)?;
        let mut out = vec![0.0; rows * columns];
        match weight {
            CpuStorage::F32(w) => product(x, &w[start..end], k, &mut out),
            CpuStorage::BF16(w) => product(x, &w[start..end], k, &mut out),
            other => bail!("linear: no product with {:?} weights", dtype(other)),
        }
        Ok((CpuStorage::F32(out), (rows, columns).into()))
    }
}

/// Rows of `x` that one task keeps in the second-level cache.
const BLOCK_ROWS: usize = 96;
/// Rows of `weight` that one task goes through.
const BLOCK_COLUMNS: usize = 64;
/// Multiplications under which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 16;

fn product<W: Weight>(x: &[f32], weight: &[W], k: usize, out: &mut [f32]) {
    if k == 0 || out.is_empty() {
        return;
    }
    let (rows, columns) = (x.len() / k, weight.len() / k);
    let target = Target::new(out);
    let column_blocks = columns.div_ceil(BLOCK_COLUMNS);
    let task = |index: usize| {
        let row = index / column_blocks * BLOCK_ROWS;
        let column = index % column_blocks * BLOCK_COLUMNS;
        let block = Block {
            x: &x[row * k..(row + BLOCK_ROWS).min(rows) * k],
            weight: &weight[column * k..(column + BLOCK_COLUMNS).min(columns) * k],
            k,
        };
        // SAFETY: blocks do not overlap, and this one starts inside `out` and ends inside it.
        unsafe { block_product(&block, target.at(row * columns + column), columns) }
    };
    let tasks = rows.div_ceil(BLOCK_ROWS) * column_blocks;
    if rows * columns * k < PARALLEL_FROM {
        (0..tasks).for_each(task);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

/// Rows of `x` and rows of `weight`, all against all.
struct Block<'a, W> {
    x: &'a [f32],
    weight: &'a [W],
    k: usize,
}

dispatch! {
    /// # Safety
    /// `out` must be writable for the block's rows at `stride` values from each other.
    unsafe fn block_product<W: Weight>(block: &Block<'_, W>, out: *mut f32, stride: usize) = block_body
}

#[inline(always)]
unsafe fn block_body<S: Simd, W: Weight>(block: &Block<'_, W>, out: *mut f32, stride: usize) {
    let k = block.k;
    let x = Rows { first: block.x.as_ptr(), count: block.x.len() / k, stride: k };
    let weight = Rows { first: block.weight.as_ptr(), count: block.weight.len() / k, stride: k };
    // SAFETY: the slices hold whole rows of `k` values; `out` is the caller's promise.
    unsafe { dot_products::<S, W>(&x, &weight, k, out, stride) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Portable;
    #[cfg(target_arch = "x86_64")]
    use crate::kernels::simd::x86::{Avx2, Avx512};
    use crate::kernels::test_support::{assert_close, values};
    use candle_core::{DType, Device};

    fn naive(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
        x.chunks(k)
            .flat_map(|x| w.chunks(k).map(|w| x.iter().zip(w).map(|(a, b)| a * b).sum()))
            .collect()
    }

    /// Wrong edges of the tiling would give wrong scores for some shapes only.
    #[test]
    fn equals_the_naive_product_on_odd_shapes() -> Result<()> {
        let device = Device::Cpu;
        for (rows, columns, k) in [(1, 1, 1), (5, 3, 7), (7, 9, 40), (97, 65, 33), (200, 130, 96)] {
            let x = Tensor::from_vec(values(1, rows * k), (rows, k), &device)?;
            for dtype in [DType::F32, DType::BF16] {
                let w = Tensor::from_vec(values(2, columns * k), (columns, k), &device)?
                    .to_dtype(dtype)?;
                let wide = w.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                let expected = naive(&x.flatten_all()?.to_vec1()?, &wide, k);
                let found = linear(&x, &w)?.flatten_all()?.to_vec1()?;
                assert_close(&found, &expected, 1e-4);
            }
        }
        Ok(())
    }

    fn product_at<S: Simd>(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
        let mut out = vec![0.0; x.len() / k * (w.len() / k)];
        // SAFETY: `out` has a place for every row of `x` and of `w`; the caller checked the level.
        unsafe { block_body::<S, f32>(&Block { x, weight: w, k }, out.as_mut_ptr(), w.len() / k) }
        out
    }

    /// Only one level runs on a machine; an error in another would show on somebody else's.
    #[test]
    fn every_level_of_this_processor_gives_the_product() {
        for (rows, columns, k) in [(1, 1, 1), (7, 9, 40), (13, 11, 75)] {
            let (x, w) = (values(1, rows * k), values(2, columns * k));
            let expected = naive(&x, &w, k);
            assert_close(&product_at::<Portable>(&x, &w, k), &expected, 1e-4);
            #[cfg(target_arch = "x86_64")]
            {
                if std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    assert_close(&product_at::<Avx2>(&x, &w, k), &expected, 1e-4);
                }
                if std::arch::is_x86_feature_detected!("avx512f") {
                    assert_close(&product_at::<Avx512>(&x, &w, k), &expected, 1e-4);
                }
            }
        }
    }

    /// A row's result must be the same bits alone and among others: scores may not depend on the
    /// batch.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() -> Result<()> {
        let device = Device::Cpu;
        let (rows, columns, k) = (101, 70, 75);
        let x = Tensor::from_vec(values(3, rows * k), (rows, k), &device)?;
        let w = Tensor::from_vec(values(4, columns * k), (columns, k), &device)?;
        let together = linear(&x, &w)?.to_vec2::<f32>()?;
        for (row, together) in together.iter().enumerate() {
            let alone = linear(&x.narrow(0, row, 1)?, &w)?.to_vec2::<f32>()?;
            assert_eq!(&alone[0], together, "row {row}");
        }
        Ok(())
    }

    #[test]
    fn refuses_other_inner_dimensions() {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let w = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
        let message = linear(&x, &w).unwrap_err().to_string();
        assert!(message.contains("3 columns"), "{message}");
    }
}
