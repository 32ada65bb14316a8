//! How a kernel is started: one description for cards and for the emulated card of tests.

use candle_core::{DType, Result, bail};

/// A kernel's start over buffers named by `B`.
#[derive(Debug)]
pub(super) struct Launch<B> {
    pub(super) kernel: &'static str,
    /// Blocks in x and y.
    pub(super) grid: [u32; 2],
    /// Threads of a block: whole warps.
    pub(super) threads: u32,
    /// In the order of the kernel's parameters.
    pub(super) arguments: Vec<Argument<B>>,
}

#[derive(Debug)]
pub(super) enum Argument<B> {
    /// The first value of a buffer.
    Buffer(B),
    Number(u32),
    Float(f32),
}

/// The threads of a block that goes through a row of `columns`: whole warps, at most 256.
pub(super) fn row_threads(columns: usize) -> u32 {
    // Eight values a thread: two accesses of 16 bytes in f32, one in bf16.
    (columns.div_ceil(8).next_multiple_of(LANES)).clamp(LANES, 256) as u32
}

/// Threads that run in step.
pub(super) const LANES: usize = 32;

/// The kernel for activations of `dtype`, of its forms in f32 and bf16.
pub(super) fn form(dtype: DType, forms: [&'static str; 2]) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok(forms[0]),
        DType::BF16 => Ok(forms[1]),
        other => bail!("{}: no form for {other:?}", forms[0]),
    }
}
