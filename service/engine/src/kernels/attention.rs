//! Causal attention over packed sequences whose keys may begin with a shared prefix.

mod cpu;
#[cfg(any(feature = "cuda", test))]
mod tiles;

use super::rope::HeadLayout;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use cpu::Strided;
use std::ops::Range;

/// A run of query rows of one sequence, and the key rows that they see.
///
/// The row at offset `r` of `queries` sees all of `prefix` and the first `visible + r` of `own`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Rows of `q`.
    pub(crate) queries: Range<usize>,
    /// Rows of `kv` that stand before the sequence's own; empty where there is no prefix.
    pub(crate) prefix: Range<usize>,
    /// Rows of `kv` of the sequence itself, up to the last that any of `queries` sees.
    pub(crate) own: Range<usize>,
    /// How many of `own` the first row of `queries` sees, itself included.
    pub(crate) visible: usize,
}

/// The spans of one call, with what a card reads of them.
#[derive(Debug)]
pub(crate) struct Spans {
    spans: Vec<Span>,
    /// The words of the tiles, `[tiles, 6]`, on the card; none on the CPU.
    #[cfg(feature = "cuda")]
    tiles: Option<Tensor>,
}

impl Spans {
    /// Spans on the CPU.
    pub(crate) fn new(spans: Vec<Span>) -> Self {
        Self {
            spans,
            #[cfg(feature = "cuda")]
            tiles: None,
        }
    }

    /// Spans on the card where `tiles` is: their [`tile_words`](Self::tile_words), uploaded.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(spans: Vec<Span>, tiles: Tensor) -> Self {
        Self { spans, tiles: Some(tiles) }
    }

    /// What a card must be given of spans, as numbers.
    #[cfg(feature = "cuda")]
    pub(crate) fn tile_words(spans: &[Span]) -> Vec<u32> {
        tiles::words(spans)
    }

    fn check(&self, rows: usize, key_rows: usize) -> Result<()> {
        let mut next = 0;
        for span in &self.spans {
            if span.queries.start != next
                || span.queries.is_empty()
                || span.visible == 0
                || span.visible + span.queries.len() - 1 > span.own.len()
                || span.own.end.max(span.prefix.end) > key_rows
            {
                bail!("attention: {span:?} does not fit {rows} queries and {key_rows} keys")
            }
            next = span.queries.end;
        }
        if next != rows {
            bail!("attention: spans cover {next} of {rows} rows")
        }
        Ok(())
    }
}

/// `softmax(q kᵀ / √D) v` of every query row over the keys that its span lets it see.
///
/// - `q`: `[Tq, H D]`; f32 on the CPU, f32 or bf16 on a card; rows may be strided
/// - `kv`: `[Tk, 2 Hk D]`, of the same type: key heads first, then value heads; rows may be strided; query
///   head `h` reads key/value head `h / (H / Hk)`
/// - `spans`: cover the rows of `q` without overlap
///
/// Returns `[Tq, H D]`. A key's place in its sequence decides the order of all sums, so a sequence
/// gives the same bits whether its beginning is a shared prefix or its own.
///
/// # Errors
/// If a shape does not fit `heads` or a span lies outside the rows.
pub(crate) fn attention(
    q: &Tensor,
    kv: &Tensor,
    spans: &Spans,
    heads: HeadLayout,
) -> Result<Tensor> {
    q.apply_op2_no_bwd(kv, &Attention { spans, heads })
}

struct Attention<'a> {
    spans: &'a Spans,
    heads: HeadLayout,
}

impl Attention<'_> {
    /// The rows of `q`, and the strides of both.
    fn check(&self, q: &Layout, kv: &Layout) -> Result<(usize, [usize; 2])> {
        let HeadLayout { query_heads, key_heads, head_dim, .. } = self.heads;
        let ((rows, width), (key_rows, kv_width)) = (q.shape().dims2()?, kv.shape().dims2()?);
        let (&[q_stride, 1], &[kv_stride, 1]) = (q.stride(), kv.stride()) else {
            bail!("attention: rows are not contiguous: {q:?}, {kv:?}")
        };
        if width != query_heads * head_dim
            || kv_width != 2 * key_heads * head_dim
            || key_heads == 0
            || query_heads % key_heads != 0
        {
            bail!("attention: rows of {width} and {kv_width} do not fit {:?}", self.heads)
        }
        self.spans.check(rows, key_rows)?;
        Ok((rows, [q_stride, kv_stride]))
    }
}

/// The values of a view whose rows may be strided.
fn strided<'a>(storage: &'a CpuStorage, layout: &Layout, stride: usize) -> Result<Strided<'a>> {
    let (rows, width) = layout.shape().dims2()?;
    let CpuStorage::F32(values) = storage else { bail!("attention: operand is not f32") };
    let values = &values[layout.start_offset()..];
    if rows > 0 && (rows - 1) * stride + width > values.len() {
        bail!("attention: {rows} rows lie outside of {} values", values.len())
    }
    Ok(Strided { values, stride })
}

impl CustomOp2 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        kv: &CpuStorage,
        kv_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, [q_stride, kv_stride]) = self.check(q_layout, kv_layout)?;
        let q = strided(q, q_layout, q_stride)?;
        let kv = strided(kv, kv_layout, kv_stride)?;
        let out = cpu::attend_all(q, kv, &self.spans.spans, rows, self.heads);
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        q: &candle_core::CudaStorage,
        q_layout: &Layout,
        kv: &candle_core::CudaStorage,
        kv_layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use super::cuda::{address, contiguous, output, start};
        use candle_core::backend::BackendStorage;
        use candle_core::{DType, Storage};
        let (_, strides) = self.check(q_layout, kv_layout)?;
        let (device, dtype) = (&q.device, q.dtype());
        if kv.dtype() != dtype {
            bail!("attention: queries in {dtype:?}, keys in {:?}", kv.dtype())
        }
        let Some(words) = &self.spans.tiles else {
            bail!("attention: the spans are not on the card")
        };
        let (count, _) = words.dims2()?;
        let (words, layout) = words.storage_and_layout();
        let Storage::Cuda(words) = &*words else {
            bail!("attention: the spans are not on the card")
        };
        let words = contiguous("attention", words, layout, DType::U32)?;
        let (storage, out) = output(device, q_layout.shape(), dtype)?;
        let [q, kv] = [address(q, q_layout)?, address(kv, kv_layout)?];
        let is_aligned = q % 16 == 0 && kv % 16 == 0;
        let launch =
            tiles::launch(count, self.heads, strides, is_aligned, dtype, [q, kv, words, out])?;
        // SAFETY: the shapes and all spans were checked; the words are those of the spans.
        unsafe { start(device, &launch) }?;
        Ok((storage, q_layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests;
