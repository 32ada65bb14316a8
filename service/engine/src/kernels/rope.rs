//! Norm of query and key heads, then rotary position embedding, in place on the merged projection.

use super::f32_slice;
#[cfg(any(feature = "cuda", test))]
use super::launch::{Argument, LANES, Launch, form};
use super::rms_norm::inverse_rms;
#[cfg(any(feature = "cuda", test))]
use candle_core::DType;
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
/// - `qkv`: `[T, (H + Hk) D + value_width]`, contiguous: f32 on the CPU, f32 or bf16 on a card
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

impl QkNormRope {
    /// The rows of `qkv`.
    fn check(&self, qkv: &Layout, norms: &Layout, rotary: &Layout) -> Result<usize> {
        let (rows, columns) = qkv.shape().dims2()?;
        let head_dim = self.heads.head_dim;
        if columns != self.heads.width()
            || norms.shape().elem_count() != 2 * head_dim
            || rotary.shape().elem_count() != rows * head_dim
        {
            bail!("qk_norm_rope: {rows} rows of {columns} do not fit {:?}", self.heads)
        }
        Ok(rows)
    }

    #[cfg(any(feature = "cuda", test))]
    fn launch<B>(&self, rows: usize, dtype: DType, buffers: [B; 3]) -> Result<Launch<B>> {
        /// Heads, each a warp's work, of a block.
        const BLOCK_HEADS: usize = 8;
        let Self { heads, eps } = *self;
        let rotated = heads.query_heads + heads.key_heads;
        let numbers = [rows, heads.width(), heads.query_heads, heads.key_heads, heads.head_dim];
        let mut arguments = Vec::from(buffers.map(Argument::Buffer));
        arguments.extend(numbers.map(|number| Argument::Number(number as u32)));
        arguments.push(Argument::Float(eps));
        Ok(Launch {
            kernel: form(dtype, ["qk_norm_rope_f32", "qk_norm_rope_bf16"])?,
            grid: [(rows * rotated).div_ceil(BLOCK_HEADS) as u32, 1],
            threads: (BLOCK_HEADS * LANES) as u32,
            arguments,
        })
    }
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
        let (head_dim, columns) = (heads.head_dim, heads.width());
        self.check(qkv_layout, norms_layout, rotary_layout)?;
        let norms = f32_slice("qk_norm_rope", norms, norms_layout)?;
        let rotary = f32_slice("qk_norm_rope", rotary, rotary_layout)?;
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &mut candle_core::CudaStorage,
        qkv_layout: &Layout,
        norms: &candle_core::CudaStorage,
        norms_layout: &Layout,
        rotary: &candle_core::CudaStorage,
        rotary_layout: &Layout,
    ) -> Result<()> {
        use super::cuda::{contiguous, start};
        use candle_core::backend::BackendStorage;
        let rows = self.check(qkv_layout, norms_layout, rotary_layout)?;
        let dtype = qkv.dtype();
        let device = qkv.device.clone();
        let qkv = contiguous("qk_norm_rope", qkv, qkv_layout, dtype)?;
        let norms = contiguous("qk_norm_rope", norms, norms_layout, DType::F32)?;
        let rotary = contiguous("qk_norm_rope", rotary, rotary_layout, DType::F32)?;
        // SAFETY: the shapes were checked.
        unsafe { start(&device, &self.launch(rows, dtype, [qkv, norms, rotary])?) }
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
    use crate::kernels::emulated::{Host, emulate};
    use crate::kernels::test_support::{assert_close, read, runs, values};

    const EPS: f32 = 1e-6;

    const SHAPES: [HeadLayout; 4] = [
        HeadLayout { query_heads: 3, key_heads: 1, value_width: 6, head_dim: 6 },
        HeadLayout { query_heads: 0, key_heads: 2, value_width: 8, head_dim: 4 },
        HeadLayout { query_heads: 2, key_heads: 0, value_width: 0, head_dim: 128 },
        HeadLayout { query_heads: 4, key_heads: 2, value_width: 256, head_dim: 128 },
    ];

    /// Rows of `qkv`, the two norms and the rotary table.
    fn operands(heads: HeadLayout, rows: usize) -> [Vec<f32>; 3] {
        let angles = values(3, rows * heads.head_dim / 2);
        let rotary = angles
            .chunks(heads.head_dim / 2)
            .flat_map(|a| a.iter().map(|a| a.cos()).chain(a.iter().map(|a| a.sin())))
            .collect();
        [values(1, rows * heads.width()), values(2, 2 * heads.head_dim), rotary]
    }

    fn naive(heads: HeadLayout, [qkv, norms, rotary]: &[Vec<f32>; 3]) -> Vec<f32> {
        let (size, half) = (heads.head_dim, heads.head_dim / 2);
        let mut expected = qkv.clone();
        for (row, rotary) in expected.chunks_mut(heads.width()).zip(rotary.chunks(size)) {
            let rotated = (heads.query_heads + heads.key_heads) * size;
            for (index, head) in row[..rotated].chunks_mut(size).enumerate() {
                let weight =
                    if index < heads.query_heads { &norms[..size] } else { &norms[size..] };
                let mean = head.iter().map(|x| x * x).sum::<f32>() / size as f32;
                let normed: Vec<f32> =
                    head.iter().zip(weight).map(|(x, w)| x / (mean + EPS).sqrt() * w).collect();
                for i in 0..half {
                    let (cos, sin) = (rotary[i], rotary[half + i]);
                    head[i] = normed[i] * cos - normed[i + half] * sin;
                    head[i + half] = normed[i + half] * cos + normed[i] * sin;
                }
            }
        }
        expected
    }

    /// A head normed with another's weight or rotated the wrong way spoils attention silently.
    #[test]
    fn equals_the_definition_and_leaves_values_alone() -> Result<()> {
        for run in runs() {
            for heads in SHAPES {
                let mut operands = operands(heads, 5);
                let qkv = run.activations(&mut operands[0], (5, heads.width()))?;
                let tensor = |v: &[f32], shape| Tensor::from_slice(v, shape, &run.device);
                let norms = tensor(&operands[1], (2, heads.head_dim))?;
                let rotary = tensor(&operands[2], (5, heads.head_dim))?;
                qk_norm_rope(&qkv, &norms, &rotary, heads, EPS)?;
                assert_close(&read(&qkv)?, &naive(heads, &operands), run.tolerance(1e-5));
            }
        }
        Ok(())
    }

    /// The card's kernel has indices of its own.
    #[test]
    fn the_kernel_equals_the_definition() -> Result<()> {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 2e-2)] {
            for heads in SHAPES {
                let mut operands = operands(heads, 5);
                let mut host = Host::default();
                let types = [dtype, DType::F32, DType::F32];
                let buffers = [0, 1, 2].map(|i| host.push(&operands[i], types[i]));
                operands[0] = host.read(0);
                let op = QkNormRope { heads, eps: EPS };
                let Some(found) = emulate(&op.launch(5, dtype, buffers)?, &host) else {
                    return Ok(());
                };
                assert_close(&found.read(0), &naive(heads, &operands), tolerance);
            }
        }
        Ok(())
    }
}
