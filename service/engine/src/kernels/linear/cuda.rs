//! Products on a card: cuBLAS on tensor cores, sums in f32.

use super::Linear;
use crate::kernels::cuda::{Product, contiguous, output};
use candle_core::backend::BackendStorage;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, bail};

type Operand<'a> = (&'a CudaStorage, &'a Layout);

impl Linear {
    /// `x wᵀ` by the chosen rows of `weight`.
    pub(super) fn on_card(
        &self,
        x: Operand<'_>,
        weight: Operand<'_>,
    ) -> Result<(CudaStorage, Shape)> {
        let (rows, _) = x.1.shape().dims2()?;
        let (device, dtype) = (&x.0.device, x.0.dtype());
        let shape = Shape::from((rows, self.chosen.len()));
        let (storage, out) = output(device, &shape, dtype)?;
        let product = self.product(x, weight, (out, dtype), false)?;
        // SAFETY: `out` has the shape of the product.
        unsafe { product.start(device) }?;
        Ok((storage, shape))
    }

    /// Adds the product to `sums`, whose shape is that of the product.
    pub(super) fn add_on_card(
        &self,
        sums: Operand<'_>,
        x: Operand<'_>,
        weight: Operand<'_>,
    ) -> Result<()> {
        let out = contiguous("add_linear", sums.0, sums.1, DType::F32)?;
        let product = self.product(x, weight, (out, DType::F32), true)?;
        // SAFETY: the caller checked the shape of `sums`.
        unsafe { product.start(&x.0.device) }
    }

    fn product(
        &self,
        (x, x_layout): Operand<'_>,
        (weight, weight_layout): Operand<'_>,
        (out, output): (u64, DType),
        is_added: bool,
    ) -> Result<Product> {
        let (rows, k) = x_layout.shape().dims2()?;
        if k != self.k || k == 0 {
            bail!("linear: `x` has {k} columns, `weight` {}", self.k)
        }
        let inputs = weight.dtype();
        let first_row = (self.chosen.start * k * inputs.size_in_bytes()) as u64;
        Ok(Product {
            x: contiguous("linear", x, x_layout, inputs)?,
            w: contiguous("linear", weight, weight_layout, inputs)? + first_row,
            out,
            rows,
            columns: self.chosen.len(),
            k,
            inputs,
            output,
            is_added,
        })
    }
}
