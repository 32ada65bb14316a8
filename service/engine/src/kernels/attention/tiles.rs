//! How a card's blocks share the query rows: the twin of `tiles.cuh`.

use super::Span;
use crate::kernels::launch::{Argument, LANES, Launch, form};
use crate::kernels::rope::HeadLayout;
use candle_core::{DType, Result, bail};

/// Query rows of a block: four warps of 16.
const TILE_ROWS: usize = 64;
const THREADS: usize = 4 * LANES;
/// The head size that has a kernel for tensor cores.
const TENSOR_HEAD: usize = 128;
/// The largest head size that any kernel takes.
const MAX_HEAD: usize = 256;

/// Six words a tile: first row and count of rows, of the prefix, first own key and how many of them the first
/// row sees.
pub(super) fn words(spans: &[Span]) -> Vec<u32> {
    let tiles = spans
        .iter()
        .flat_map(|span| (0..span.queries.len()).step_by(TILE_ROWS).map(move |row| (span, row)));
    let words = tiles.flat_map(|(span, row)| {
        let count = TILE_ROWS.min(span.queries.len() - row);
        [
            span.queries.start + row,
            count,
            span.prefix.start,
            span.prefix.len(),
            span.own.start,
            span.visible + row,
        ]
    });
    words.map(|word| word as u32).collect()
}

/// The kernel for `q`, `kv`, the words of `tiles` tiles and the output.
///
/// `strides` are those of `q` and `kv`; `is_aligned` tells whether both begin on 16 bytes.
pub(super) fn launch<B>(
    tiles: usize,
    heads: HeadLayout,
    strides: [usize; 2],
    is_aligned: bool,
    dtype: DType,
    buffers: [B; 4],
) -> Result<Launch<B>> {
    let HeadLayout { query_heads, key_heads, head_dim, .. } = heads;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut arguments = Vec::from(buffers.map(Argument::Buffer));
    let [q_stride, kv_stride] = strides;
    let numbers = [q_stride, kv_stride, query_heads, key_heads];
    arguments.extend(numbers.map(|number| Argument::Number(number as u32)));
    // Values of 16 bytes: rows must begin on them as well.
    let is_aligned = is_aligned && q_stride % 8 == 0 && kv_stride % 8 == 0;
    let kernel = if dtype == DType::BF16 && head_dim == TENSOR_HEAD && is_aligned {
        arguments.push(Argument::Float(scale * std::f32::consts::LOG2_E));
        "attend_tensor"
    } else if head_dim <= MAX_HEAD {
        arguments.extend([Argument::Number(head_dim as u32), Argument::Float(scale)]);
        form(dtype, ["attend_f32", "attend_bf16"])?
    } else {
        bail!("attention: heads of {head_dim}; at most {MAX_HEAD} on a card")
    };
    let grid = [tiles as u32, query_heads as u32];
    Ok(Launch { kernel, grid, threads: THREADS as u32, arguments })
}
