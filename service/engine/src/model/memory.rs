//! How much of a batch runs at once, so that memory stays within its bound.

use super::config::Config;
use candle_core::DType;
use std::ops::Range;

/// Memory that may be taken beyond the weights, beside 15 % of them.
const BEYOND_BYTES: usize = 200_000_000;
/// What of it the process has without any batch: code, tokenizer, rotary table (measured).
const PROCESS_BYTES: usize = 60_000_000;
/// What the allocator adds to the sizes that are asked for, in per cent (measured).
const ALLOCATOR_PERCENT: usize = 125;

/// Rows of a pass on the CPU: more gain nothing.
const CPU_ROWS: usize = 512;
/// The fewest rows of a pass that a card still multiplies well.
const LEAST_ROWS: usize = 512;

/// The bytes of a forward beyond the weights.
///
/// The residual stream, one layer's keys and values and the rotary rows are held for all rows of a batch;
/// the projections for the rows of one pass.
#[derive(Clone, Copy, Debug)]
struct Rows {
    row: usize,
    pass_row: usize,
}

impl Rows {
    fn of(config: &Config, activations: DType) -> Self {
        let size = activations.size_in_bytes();
        let query_width = config.num_attention_heads * config.head_dim;
        let key_value_width = 2 * config.num_key_value_heads * config.head_dim;
        let single = size_of::<f32>() * (config.hidden_size + config.head_dim);
        // The norm, the merged projection with a copy of its keys and values, what attention gives, the
        // product before it is added (on the CPU), gate, up and their product.
        let pass = 2 * config.hidden_size
            + 2 * (query_width + key_value_width)
            + 3 * config.intermediate_size;
        Self { row: single + size * key_value_width, pass_row: size * pass }
    }

    fn bytes(self, tokens: usize, pass: usize) -> usize {
        (tokens * self.row + pass.min(tokens) * self.pass_row) * ALLOCATOR_PERCENT / 100
    }
}

/// How the rows of a batch are shared between passes through a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passes {
    rows: Rows,
    /// Bytes that a forward may take.
    allowed: usize,
    /// The most and the fewest rows of a pass.
    most: usize,
    least: usize,
}

impl Passes {
    /// For a device with so many bytes `free` beside the weights; none where it is not known, on the CPU.
    pub(super) fn new(
        config: &Config,
        weight_bytes: usize,
        activations: DType,
        free: Option<usize>,
    ) -> Self {
        let bound = BEYOND_BYTES - PROCESS_BYTES + weight_bytes * 15 / 100;
        let rows = Rows::of(config, activations);
        match free {
            None => Self { rows, allowed: bound, most: CPU_ROWS, least: CPU_ROWS },
            Some(free) => {
                Self { rows, allowed: bound.min(free), most: usize::MAX, least: LEAST_ROWS }
            }
        }
    }

    /// Whether a batch of so many tokens stays within the bound.
    pub(super) fn fits(&self, tokens: usize) -> bool {
        self.needed(tokens) <= self.allowed
    }

    /// The fewest bytes that a batch of so many tokens takes.
    pub(super) fn needed(&self, tokens: usize) -> usize {
        self.rows.bytes(tokens, self.least)
    }

    /// The largest batch of at most `wanted` tokens within the bound; at least one token.
    pub(super) fn max_batch_tokens(&self, wanted: usize) -> usize {
        let (mut low, mut high) = (1, wanted.max(1));
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// The rows of each pass of a batch: as few passes as fit, of nearly equal size.
    pub(super) fn of(&self, tokens: usize) -> impl Iterator<Item = Range<usize>> {
        let beside = tokens * self.rows.row;
        let room = (self.allowed * 100 / ALLOCATOR_PERCENT).saturating_sub(beside);
        let most = (room / self.rows.pass_row).min(self.most).max(self.least);
        let rows = tokens.div_ceil(tokens.div_ceil(most).max(1)).max(1);
        (0..tokens).step_by(rows).map(move |start| start..(start + rows).min(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hidden_size: usize, num_attention_heads: usize, intermediate_size: usize) -> Config {
        Config {
            vocab_size: 8192,
            hidden_size,
            intermediate_size,
            num_hidden_layers: 28,
            num_attention_heads,
            num_key_value_heads: 8,
            head_dim: 128,
            max_position_embeddings: 40_960,
            rms_norm_eps: 1e-6,
            rope_theta: 1e6,
            tie_word_embeddings: true,
        }
    }

    /// A batch larger than memory ends the process, and every request with it.
    #[test]
    fn a_batch_is_cut_to_the_memory_that_the_model_may_take() {
        let on_cpu = |config: &Config, bytes| Passes::new(config, bytes, DType::F32, None);
        let small = on_cpu(&config(2048, 16, 6144), 3_441_149_952);
        assert_eq!(small.max_batch_tokens(4096), 4096);
        for passes in [small, on_cpu(&config(1024, 16, 3072), 268_000_000)] {
            let limit = passes.max_batch_tokens(32_768);
            assert!(limit < 32_768 && passes.fits(limit), "{limit}");
            assert!(!passes.fits(limit + 1), "{limit} is not the largest");
        }
        assert_eq!(on_cpu(&config(1 << 22, 16, 1 << 24), 0).max_batch_tokens(32_768), 1);
    }

    /// On a card a batch runs in as few passes as its memory holds, and no pass takes more.
    #[test]
    fn passes_cover_every_row_within_the_bound() {
        let config = config(2048, 16, 6144);
        let on_card = |free| Passes::new(&config, 3_441_149_952, DType::BF16, Some(free));
        for (passes, tokens, count) in [
            (on_card(1 << 36), 1, 1),
            (on_card(1 << 36), 4096, 1),
            (on_card(1 << 36), 32_768, 20),
            (on_card(1 << 29), 8192, 2),
        ] {
            let ranges: Vec<_> = passes.of(tokens).collect();
            assert_eq!(ranges.len(), count, "{tokens}: {ranges:?}");
            assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), tokens);
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
            let bytes = passes.rows.bytes(tokens, ranges[0].len());
            assert!(passes.fits(tokens) && bytes <= passes.allowed, "{tokens}: {bytes}");
        }
        assert!(!on_card(1 << 27).fits(32_768), "the longest pair does not fit 128 MB");
        assert_eq!(on_card(1 << 36).of(0).count(), 0);
    }
}
