//! A product that is added to what is there: the end of each block of a layer.

use super::{Linear, Matrix};
use candle_core::{CpuStorage, CustomOp2, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

/// `residual += x Wᵀ`, in place.
///
/// - `residual`: `[T, N]`, f32, contiguous; may be a view
/// - `x`: `[T, K]`, as [`linear`](super::linear) takes it
/// - `weight`: `[N, K]`
///
/// The residual stream is f32 on every device: a product is added before it is rounded, at the end of its
/// own kernel on a card.
///
/// # Errors
/// As [`linear`](super::linear); also if the shape of `residual` is another.
pub(crate) fn add_linear(residual: &Tensor, x: &Tensor, weight: &Matrix) -> Result<()> {
    let product = Linear { chosen: 0..weight.rows, k: weight.columns };
    residual.inplace_op3(x, &weight.packed, &AddLinear(product))
}

struct AddLinear(Linear);

impl AddLinear {
    fn check(&self, residual: &Layout, x: &Layout) -> Result<()> {
        let (rows, _) = x.shape().dims2()?;
        if residual.shape().dims2()? != (rows, self.0.chosen.len()) {
            bail!("add_linear: a product of {rows} rows does not fit {:?}", residual.shape())
        }
        Ok(())
    }
}

impl InplaceOp3 for AddLinear {
    fn name(&self) -> &'static str {
        "add_linear"
    }

    fn cpu_fwd(
        &self,
        residual: &mut CpuStorage,
        residual_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        self.check(residual_layout, x_layout)?;
        let (product, _) = self.0.cpu_fwd(x, x_layout, weight, weight_layout)?;
        let (Some((start, end)), CpuStorage::F32(residual), CpuStorage::F32(product)) =
            (residual_layout.contiguous_offsets(), residual, product)
        else {
            bail!("add_linear: `residual` is not contiguous f32")
        };
        let sums = residual[start..end].par_iter_mut().zip(product).with_min_len(1 << 14);
        sums.for_each(|(sum, product)| *sum += product);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        residual: &mut candle_core::CudaStorage,
        residual_layout: &Layout,
        x: &candle_core::CudaStorage,
        x_layout: &Layout,
        weight: &candle_core::CudaStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        self.check(residual_layout, x_layout)?;
        self.0.add_on_card((residual, residual_layout), (x, x_layout), (weight, weight_layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::linear::linear_rows;
    use crate::kernels::test_support::{assert_close, read, runs, values};
    use candle_core::DType;

    /// Both blocks of every layer end here, on a view of the residual stream; what is next to it is another
    /// pass's. Products go through this file's op and `linear` on every device that there is.
    #[test]
    fn equals_the_definition_and_keeps_to_its_rows() -> Result<()> {
        for run in runs() {
            for (rows, columns, k) in [(1, 1, 1), (5, 3, 7), (13, 40, 64), (70, 136, 264)] {
                let (mut x, mut w) = (values(1, rows * k), values(2, columns * k));
                let residual = values(3, (rows + 3) * columns);
                let weight = Matrix::new(&run.activations(&mut w, (columns, k))?)?;
                let on_device = run.activations(&mut x, (rows, k))?;
                let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum();
                let product: Vec<f32> =
                    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| dot(x, w))).collect();
                let all = Tensor::from_slice(&residual, (rows + 3, columns), &run.device)?;
                add_linear(&all.narrow(0, 2, rows)?, &on_device, &weight)?;

                let mut expected = residual;
                for (sum, product) in expected[2 * columns..].iter_mut().zip(&product) {
                    *sum += product;
                }
                assert_close(&read(&all)?, &expected, run.tolerance(1e-4));
                let chosen = columns / 3..columns;
                let part = read(&linear_rows(&on_device, &weight, chosen.clone())?)?;
                let expected: Vec<f32> =
                    product.chunks(columns).flat_map(|row| row[chosen.clone()].to_vec()).collect();
                assert_close(&part, &expected, run.tolerance(1e-4));
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_another_shape() -> Result<()> {
        let of =
            |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &candle_core::Device::Cpu);
        let weight = Matrix::new(&of((3, 4))?)?;
        assert!(add_linear(&of((2, 4))?, &of((2, 4))?, &weight).is_err());
        assert!(add_linear(&of((1, 3))?, &of((2, 4))?, &weight).is_err());
        Ok(())
    }
}
