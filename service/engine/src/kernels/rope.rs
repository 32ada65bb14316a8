//! Norm of query and key heads, then rotary position embedding, in place on the merged projection.

use super::f32_slice;
use super::rms_norm::inverse_rms;
use candle_core::{CpuStorage, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

/// Which heads stand in a row of the merged projection, in this order: query, key, value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLayout {
    pub(crate) query_heads: usize,
    pub(crate) key_heads: usize,
    /// Values that follow query and key heads and stay as they are.
    pub(crate) value_width: usize,
    pub(crate) head_dim: usize,
}

impl HeadLayout {
    fn width(self) -> usize {
        (self.query_heads + self.key_heads) * self.head_dim + self.value_width
    }
}

/// Norms every query and key head of `qkv` and rotates it by its position, in place.
///
/// - `qkv`: `[T, (H + Hk) D + value_width]`, f32, contiguous
/// - `norms`: `[2, D]`, f32: the weights of `q_norm`, then of `k_norm`
/// - `rotary`: `[T, D]`, f32: cosines of the row's `D/2` angles, then their sines
///
/// Rotation pairs element `i` with `i + D/2`, as the published model does.
///
/// # Errors
/// If a shape does not fit `heads`, or an operand is not contiguous f32.
///
/// Source: Su et al., arXiv:2104.09864; Qwen3 norms heads before rotating them.
pub(crate) fn qk_norm_rope(
    qkv: &Tensor,
    norms: &Tensor,
    rotary: &Tensor,
    heads: HeadLayout,
    eps: f32,
) -> Result<()> {
    qkv.inplace_op3(norms, rotary, &QkNormRope { heads, eps })
}

struct QkNormRope {
    heads: HeadLayout,
    eps: f32,
}

impl InplaceOp3 for QkNormRope {
    fn name(&self) -> &'static str {
        "qk_norm_rope"
    }

    fn cpu_fwd(
        &self,
        qkv: &mut CpuStorage,
        qkv_layout: &Layout,
        norms: &CpuStorage,
        norms_layout: &Layout,
        rotary: &CpuStorage,
        rotary_layout: &Layout,
    ) -> Result<()> {
        let Self { heads, eps } = *self;
        let head_dim = heads.head_dim;
        let (rows, columns) = qkv_layout.shape().dims2()?;
        let norms = f32_slice("qk_norm_rope", norms, norms_layout)?;
        let rotary = f32_slice("qk_norm_rope", rotary, rotary_layout)?;
        if columns != heads.width()
            || norms.len() != 2 * head_dim
            || rotary.len() != rows * head_dim
        {
            bail!("qk_norm_rope: {rows} rows of {columns} do not fit {heads:?}")
        }
        let (Some((start, end)), CpuStorage::F32(qkv)) = (qkv_layout.contiguous_offsets(), qkv)
        else {
            bail!("qk_norm_rope: operand is not contiguous f32")
        };
        let (q_norm, k_norm) = norms.split_at(head_dim);
        qkv[start..end]
            .par_chunks_mut(columns)
            .zip(rotary.par_chunks(head_dim))
            .with_min_len(8)
            .for_each(|(row, rotary)| {
                let (cos, sin) = rotary.split_at(head_dim / 2);
                let rotated = (heads.query_heads + heads.key_heads) * head_dim;
                for (index, head) in row[..rotated].chunks_mut(head_dim).enumerate() {
                    let weight = if index < heads.query_heads { q_norm } else { k_norm };
                    norm_rotate(head, weight, cos, sin, eps);
                }
            });
        Ok(())
    }
}

fn norm_rotate(head: &mut [f32], weight: &[f32], cos: &[f32], sin: &[f32], eps: f32) {
    let scale = inverse_rms(head, eps);
    let (left, right) = head.split_at_mut(cos.len());
    let (left_weight, right_weight) = weight.split_at(cos.len());
    for (i, (left, right)) in left.iter_mut().zip(right).enumerate() {
        let a = *left * scale * left_weight[i];
        let b = *right * scale * right_weight[i];
        *left = a * cos[i] - b * sin[i];
        *right = b * cos[i] + a * sin[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::test_support::{assert_close, values};
    use candle_core::Device;

    /// A head normed with another's weight or rotated the wrong way spoils attention silently.
    #[test]
    fn equals_the_definition_and_leaves_values_alone() -> Result<()> {
        let heads = HeadLayout { query_heads: 3, key_heads: 1, value_width: 6, head_dim: 6 };
        let (rows, width, eps) = (5, 30, 1e-6);
        let (input, norms, angles) = (values(1, rows * width), values(2, 12), values(3, rows * 3));
        let rotary: Vec<f32> = angles
            .chunks(3)
            .flat_map(|a| a.iter().map(|a| a.cos()).chain(a.iter().map(|a| a.sin())))
            .collect();
        let mut expected = input.clone();
        for (row, angles) in expected.chunks_mut(width).zip(angles.chunks(3)) {
            for (index, head) in row[..24].chunks_mut(6).enumerate() {
                let weight = if index < 3 { &norms[..6] } else { &norms[6..] };
                let mean = head.iter().map(|x| x * x).sum::<f32>() / 6.0;
                let normed: Vec<f32> =
                    head.iter().zip(weight).map(|(x, w)| x / (mean + eps).sqrt() * w).collect();
                for i in 0..3 {
                    let (sin, cos) = angles[i].sin_cos();
                    head[i] = normed[i] * cos - normed[i + 3] * sin;
                    head[i + 3] = normed[i + 3] * cos + normed[i] * sin;
                }
            }
        }
        let tensor = |v: Vec<f32>, shape| Tensor::from_vec(v, shape, &Device::Cpu);
        let qkv = tensor(input, (rows, width))?;
        qk_norm_rope(&qkv, &tensor(norms, (2, 6))?, &tensor(rotary, (rows, 6))?, heads, eps)?;
        assert_close(&qkv.flatten_all()?.to_vec1()?, &expected, 1e-5);
        Ok(())
    }
}
