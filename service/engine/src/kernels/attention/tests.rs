//! Attention against its definition: on the devices that are there, on every SIMD level, and on the emulated card.

use super::cpu::{Block, attend_body};
use super::*;
use crate::kernels::dot::Rows;
use crate::kernels::emulated::{Host, View, emulate};
#[cfg(target_arch = "x86_64")]
use crate::kernels::simd::x86::{Avx2, Avx512};
use crate::kernels::simd::{Portable, Simd};
use crate::kernels::test_support::{assert_close, read, runs, values};
use candle_core::{DType, Device};

fn naive(q: &[f32], kv: &[f32], spans: &[Span], heads: HeadLayout) -> Vec<f32> {
    let HeadLayout { query_heads, key_heads, head_dim, .. } = heads;
    let (width, kv_width) = (query_heads * head_dim, 2 * key_heads * head_dim);
    let mut out = vec![0.0; q.len()];
    for span in spans {
        for (offset, row) in span.queries.clone().enumerate() {
            let keys: Vec<usize> =
                span.prefix.clone().chain(span.own.clone().take(span.visible + offset)).collect();
            for head in 0..query_heads {
                let query = &q[row * width + head * head_dim..][..head_dim];
                let key_head = head / (query_heads / key_heads) * head_dim;
                let mut weights: Vec<f32> = keys
                    .iter()
                    .map(|key| {
                        let key = &kv[key * kv_width + key_head..][..head_dim];
                        let dot: f32 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                        dot / (head_dim as f32).sqrt()
                    })
                    .collect();
                let max = weights.iter().copied().fold(f32::MIN, f32::max);
                for weight in &mut weights {
                    *weight = (*weight - max).exp();
                }
                let sum: f32 = weights.iter().sum();
                for d in 0..head_dim {
                    let value = key_heads * head_dim + key_head + d;
                    out[row * width + head * head_dim + d] = keys
                        .iter()
                        .zip(&weights)
                        .map(|(key, w)| w / sum * kv[key * kv_width + value])
                        .sum();
                }
            }
        }
    }
    out
}

const SHAPES: [(usize, usize, usize); 6] =
    [(1, 1, 2), (4, 2, 10), (8, 1, 40), (3, 1, 64), (2, 2, 128), (4, 2, 128)];

/// A prefix; a long and a short document of it; a last row; rows in the middle of a sequence.
fn some_spans() -> Vec<Span> {
    vec![
        Span { queries: 0..7, prefix: 0..0, own: 0..7, visible: 1 },
        Span { queries: 7..177, prefix: 0..7, own: 7..177, visible: 1 },
        Span { queries: 177..180, prefix: 0..7, own: 177..180, visible: 1 },
        Span { queries: 180..181, prefix: 0..7, own: 180..189, visible: 9 },
        Span { queries: 181..184, prefix: 0..0, own: 189..200, visible: 9 },
    ]
}

fn on(device: &Device, spans: Vec<Span>) -> Spans {
    #[cfg(feature = "cuda")]
    if !device.is_cpu() {
        let words = Spans::tile_words(&spans);
        let shape = (words.len() / 6, 6);
        let tiles = Tensor::from_vec(words, shape, device).expect("a card takes numbers");
        return Spans::on_card(spans, tiles);
    }
    assert!(device.is_cpu(), "cards need the feature");
    Spans::new(spans)
}

/// A key too many or too few, or another head's, changes scores without any error.
#[test]
fn equals_the_naive_definition_on_odd_shapes() -> Result<()> {
    for run in runs() {
        for (query_heads, key_heads, head_dim) in SHAPES {
            let heads = HeadLayout { query_heads, key_heads, head_dim, value_width: 0 };
            let (width, kv_width) = (query_heads * head_dim, 2 * key_heads * head_dim);
            let (mut q, mut kv) = (values(1, 184 * width), values(2, 200 * kv_width));
            let found = attention(
                &run.activations(&mut q, (184, width))?,
                &run.activations(&mut kv, (200, kv_width))?,
                &on(&run.device, some_spans()),
                heads,
            )?;
            let expected = naive(&q, &kv, &some_spans(), heads);
            assert_close(&read(&found)?, &expected, run.tolerance(1e-5));
        }
    }
    Ok(())
}

/// The card's kernels have indices, masks and fragments of their own.
#[test]
fn the_kernels_equal_the_definition() -> Result<()> {
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 1e-2)] {
        for (query_heads, key_heads, head_dim) in SHAPES {
            let heads = HeadLayout { query_heads, key_heads, head_dim, value_width: 0 };
            let (width, kv_width) = (query_heads * head_dim, 2 * key_heads * head_dim);
            let mut host = Host::default();
            let q = host.push(&values(1, 184 * width), dtype);
            let kv = host.push(&values(2, 200 * kv_width), dtype);
            let words = tiles::words(&some_spans());
            let tiles = host.push_numbers(&words);
            let out = host.room(184 * width, dtype);
            let buffers = [q, kv, tiles, out];
            let launch =
                tiles::launch(words.len() / 6, heads, [width, kv_width], true, dtype, buffers)?;
            assert_eq!(launch.kernel == "attend_tensor", dtype == DType::BF16 && head_dim == 128);
            let Some(found) = emulate(&launch, &host) else { return Ok(()) };
            let expected = naive(&host.read(0), &host.read(1), &some_spans(), heads);
            assert_close(&found.read(3), &expected, tolerance);
        }
    }
    Ok(())
}

/// Queries and keys are read from the merged projection, whose rows are wider than theirs; scores that
/// differ by more than bf16 holds must not spoil the sums.
#[test]
fn the_tensor_kernel_reads_the_merged_projection() -> Result<()> {
    let heads = HeadLayout { query_heads: 4, key_heads: 2, head_dim: 128, value_width: 256 };
    let (rows, width, kv_width) = (150, 512, 512);
    let stride = width + kv_width;
    let merged: Vec<f32> = values(3, rows * stride).iter().map(|value| value * 4.0).collect();
    let mut host = Host::default();
    let q = host.push(&merged, DType::BF16);
    let spans = [
        Span { queries: 0..20, prefix: 0..0, own: 0..20, visible: 1 },
        Span { queries: 20..150, prefix: 0..20, own: 20..150, visible: 1 },
    ];
    let words = tiles::words(&spans);
    let tiles = host.push_numbers(&words);
    let out = host.room(rows * width, DType::BF16);
    let buffers = [q, View { offset: width, ..q }, tiles, out];
    let launch =
        tiles::launch(words.len() / 6, heads, [stride, stride], true, DType::BF16, buffers)?;
    let Some(found) = emulate(&launch, &host) else { return Ok(()) };
    let merged = host.read(0);
    let part = |range: Range<usize>| -> Vec<f32> {
        merged.chunks(stride).flat_map(|row| row[range.clone()].to_vec()).collect()
    };
    let expected = naive(&part(0..width), &part(width..stride), &spans, heads);
    assert_close(&found.read(2), &expected, 2e-2);
    Ok(())
}

fn attend_at<S: Simd>(q: &[f32], kv: &[f32], span: &Span, head_dim: usize) -> Vec<f32> {
    let rows = |values: &[f32], first: usize, count, stride| Rows {
        first: values[first * stride..].as_ptr(),
        count,
        stride,
    };
    let both = |offset: usize| {
        [&span.prefix, &span.own]
            .map(|keys| rows(&kv[offset..], keys.start, keys.len(), 2 * head_dim))
    };
    let block = Block {
        queries: rows(q, 0, span.queries.len(), head_dim),
        keys: both(0),
        values: both(head_dim),
        visible: span.prefix.len() + span.visible,
        head_dim,
    };
    let mut out = vec![0.0; q.len()];
    // SAFETY: one head, so rows of `out` are `head_dim` wide; the caller checked the level.
    unsafe { attend_body::<S>(&block, out.as_mut_ptr(), head_dim) }
    out
}

/// Only one level runs on a machine; an error in another would show on somebody else's.
#[test]
fn every_level_of_this_processor_attends_alike() {
    for head_dim in [2, 10, 24, 40, 64, 128] {
        let heads = HeadLayout { query_heads: 1, key_heads: 1, head_dim, value_width: 0 };
        let span = Span { queries: 0..9, prefix: 0..5, own: 5..16, visible: 3 };
        let (q, kv) = (values(1, 9 * head_dim), values(2, 16 * 2 * head_dim));
        let expected = naive(&q, &kv, std::slice::from_ref(&span), heads);
        assert_close(&attend_at::<Portable>(&q, &kv, &span, head_dim), &expected, 1e-5);
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                assert_close(&attend_at::<Avx2>(&q, &kv, &span, head_dim), &expected, 1e-5);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                assert_close(&attend_at::<Avx512>(&q, &kv, &span, head_dim), &expected, 1e-5);
            }
        }
    }
}

/// Sharing the query must not change a score: prefix and own keys give the same bits.
#[test]
fn a_prefix_gives_the_same_bits_as_own_keys() -> Result<()> {
    let heads = HeadLayout { query_heads: 4, key_heads: 2, head_dim: 96, value_width: 0 };
    let q = Tensor::from_vec(values(1, 30 * 384), (30, 384), &Device::Cpu)?;
    let kv = Tensor::from_vec(values(2, 50 * 384), (50, 384), &Device::Cpu)?;
    let shared = Span { queries: 0..30, prefix: 0..20, own: 20..50, visible: 1 };
    let whole = Span { queries: 0..30, prefix: 0..0, own: 0..50, visible: 21 };
    assert_eq!(
        attention(&q, &kv, &Spans::new(vec![shared]), heads)?.to_vec2::<f32>()?,
        attention(&q, &kv, &Spans::new(vec![whole]), heads)?.to_vec2::<f32>()?
    );
    Ok(())
}

#[test]
fn refuses_spans_outside_the_rows() -> Result<()> {
    let heads = HeadLayout { query_heads: 1, key_heads: 1, head_dim: 4, value_width: 0 };
    let q = Tensor::from_vec(values(1, 8), (2, 4), &Device::Cpu)?;
    let kv = Tensor::from_vec(values(2, 24), (3, 8), &Device::Cpu)?;
    for span in [
        Span { queries: 0..2, prefix: 0..0, own: 2..4, visible: 1 },
        Span { queries: 0..2, prefix: 0..0, own: 0..2, visible: 2 },
        Span { queries: 0..1, prefix: 0..0, own: 0..2, visible: 1 },
    ] {
        let message = format!("{span:?}");
        assert!(attention(&q, &kv, &Spans::new(vec![span]), heads).is_err(), "{message}");
    }
    Ok(())
}
