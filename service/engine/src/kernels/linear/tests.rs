use super::*;
use crate::kernels::test_support::{assert_close, values};
use candle_core::{DType, Device};

fn naive(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    x.chunks(k)
        .flat_map(|x| w.chunks(k).map(|w| x.iter().zip(w).map(|(a, b)| a * b).sum()))
        .collect()
}

fn every_kind(w: &Tensor) -> Result<[Matrix; 3]> {
    Ok([Matrix::new(w)?, Matrix::new(&w.to_dtype(DType::BF16)?)?, Matrix::quantised(w)?])
}

const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (5, 3, 7),
    (7, 9, 40),
    (6, 64, 32),
    (97, 65, 33),
    (13, 130, 1031),
    (12, 144, 2050),
    (200, 130, 96),
];

/// Wrong edges of the tiling would give wrong scores for some shapes only.
#[test]
fn equals_the_naive_product_on_odd_shapes() -> Result<()> {
    let device = Device::Cpu;
    for (rows, columns, k) in SHAPES {
        for dtype in [DType::F32, DType::BF16] {
            let mut x = Tensor::from_vec(values(1, rows * k), (rows, k), &device)?;
            if dtype == DType::BF16 {
                // What the processor may round is rounded already.
                x = x.to_dtype(dtype)?.to_dtype(DType::F32)?;
            }
            let w =
                Tensor::from_vec(values(2, columns * k), (columns, k), &device)?.to_dtype(dtype)?;
            let wide = w.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let expected = naive(&x.flatten_all()?.to_vec1()?, &wide, k);
            let found = linear(&x, &Matrix::new(&w)?)?;
            assert_close(&found.flatten_all()?.to_vec1()?, &expected, 1e-4);
        }
    }
    Ok(())
}

/// The last layer takes some rows of a matrix; the wrong ones are another projection.
#[test]
fn chosen_rows_are_those_of_the_whole() -> Result<()> {
    let device = Device::Cpu;
    let (rows, columns, k) = (7, 200, 70);
    let x = Tensor::from_vec(values(1, rows * k), (rows, k), &device)?;
    for w in every_kind(&Tensor::from_vec(values(2, columns * k), (columns, k), &device)?)? {
        let whole = linear(&x, &w)?;
        for chosen in [0..1, 3..200, 16..112, 17..18, 100..100, 70..199] {
            let part = linear_rows(&x, &w, chosen.clone())?;
            let expected = whole.narrow(1, chosen.start, chosen.len())?;
            assert_eq!(part.to_vec2::<f32>()?, expected.to_vec2::<f32>()?, "{chosen:?}");
        }
    }
    Ok(())
}

/// A row's result must be the same bits alone and among others: scores may not depend on the batch.
#[test]
fn a_row_does_not_depend_on_its_neighbours() -> Result<()> {
    let device = Device::Cpu;
    let (rows, columns, k) = (101, 70, 1175);
    let x = Tensor::from_vec(values(3, rows * k), (rows, k), &device)?;
    for w in every_kind(&Tensor::from_vec(values(4, columns * k), (columns, k), &device)?)? {
        let together = linear(&x, &w)?.to_vec2::<f32>()?;
        for (row, together) in together.iter().enumerate() {
            let alone = linear(&x.narrow(0, row, 1)?, &w)?.to_vec2::<f32>()?;
            assert_eq!(&alone[0], together, "row {row}");
        }
    }
    Ok(())
}

/// A score of broken weights must not look like one.
#[test]
fn what_is_not_a_number_stays_that() -> Result<()> {
    let device = Device::Cpu;
    for bits in [0x7FFF_FFFF, 0xFFFF_FFFF, 0x7F80_0001] {
        let x = Tensor::full(f32::from_bits(bits), (1, 4), &device)?;
        for w in every_kind(&Tensor::ones((3, 4), DType::F32, &device)?)? {
            let found = linear(&x, &w)?.to_vec2::<f32>()?;
            assert!(found[0].iter().all(|value| value.is_nan()), "{bits:x}: {found:?}");
        }
    }
    Ok(())
}

#[test]
fn refuses_other_inner_dimensions() {
    let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let w = Matrix::new(&Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap()).unwrap();
    let message = linear(&x, &w).unwrap_err().to_string();
    assert!(message.contains("3 columns"), "{message}");
    let x = Tensor::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(linear_rows(&x, &w, 1..3).is_err());
}

/// What is packed for each kernel: the tile's edges are the same for all, the levels are not.
#[cfg(target_arch = "x86_64")]
mod levels {
    use super::*;
    use crate::kernels::linear::float::{SingleTerms, WidenedTerms};
    use crate::kernels::linear::q8::{Portable as PortableBytes, Whole, x86};
    use crate::kernels::linear::tile::{Level, block_body};
    use crate::kernels::simd::Portable;
    use crate::kernels::simd::x86::{Avx2, Avx512};

    fn product<K, L>(x: &[f32], weight: &[K::B], k: usize, columns: usize) -> Vec<f32>
    where
        K: Kernel,
        L: Level<A = K::A, B = K::B>,
    {
        let rows = x.len() / k;
        let x = pack::rows::<K>(x, k, true);
        let mut out = vec![0.0; rows * columns];
        let chosen = &(0..columns);
        let block = Block { x: &x, rows, weight, first: 0, chosen, steps: k.div_ceil(K::STEP) };
        // SAFETY: `out` has a place for every product; the caller checked the level.
        unsafe { block_body::<L>(&block, out.as_mut_ptr()) }
        out
    }

    fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Only one level runs on a machine; an error in another would show on somebody else's.
    #[test]
    fn every_level_of_this_processor_gives_the_product() {
        for (rows, columns, k) in SHAPES {
            let (x, w) = (values(1, rows * k), values(2, columns * k));
            let halves: Vec<_> = w.iter().copied().map(half::bf16::from_f32).collect();
            let wide: Vec<f32> = halves.iter().map(|value| value.to_f32()).collect();
            let (single, halves) = (pack::weights(&w, k, 1), pack::weights(&halves, k, 2));
            let (single, pairs) = (single.as_chunks().0, pack::pairs(&halves));
            let (expected, widened) = (naive(&x, &w, k), naive(&x, &wide, k));
            macro_rules! check {
                ($level:ty) => {
                    let found = product::<Single, SingleTerms<$level>>(&x, single, k, columns);
                    assert_close(&found, &expected, 1e-4);
                    let found = product::<Widened, WidenedTerms<$level>>(&x, pairs, k, columns);
                    assert_close(&found, &widened, 1e-4);
                };
            }
            check!(Portable);
            if has_avx2() {
                check!(Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                check!(Avx512);
            }
        }
    }

    /// Sums of whole numbers are exact, so that a score of `q8` is the same on every processor.
    #[test]
    fn every_level_of_quantised_products_gives_the_same_bits() {
        for (rows, columns, k) in SHAPES {
            let (x, w) = (values(1, rows * k), values(2, columns * k));
            let weight = q8::quantise(&w, k, |value| value);
            let weight = weight.as_chunks().0;
            let portable = product::<Quantised, Whole<PortableBytes>>(&x, weight, k, columns);
            if has_avx2() {
                let found = product::<Quantised, Whole<x86::Avx2>>(&x, weight, k, columns);
                assert_eq!(found, portable, "avx2, {rows} x {columns} x {k}");
            }
            if x86::has_vnni() {
                let found = product::<Quantised, Whole<x86::Vnni>>(&x, weight, k, columns);
                assert_eq!(found, portable, "vnni, {rows} x {columns} x {k}");
            }
        }
    }
}

/// The definition: each group of 128 of a row is rounded to whole numbers of a 127th of its largest.
#[test]
fn quantised_products_are_those_of_the_rounded_operands() -> Result<()> {
    fn rounded(values: &[f32], k: usize) -> Vec<f32> {
        let groups = values.chunks(k).flat_map(|row| row.chunks(128));
        groups
            .flat_map(|group| {
                let scale = group.iter().fold(0.0f32, |a, b| a.max(b.abs())) / 127.0;
                group.iter().map(move |value| (value / scale).round_ties_even() * scale)
            })
            .collect()
    }
    for (rows, columns, k) in SHAPES {
        let (x, w) = (values(1, rows * k), values(2, columns * k));
        let expected = naive(&rounded(&x, k), &rounded(&w, k), k);
        let w = Matrix::quantised(&Tensor::from_vec(w, (columns, k), &Device::Cpu)?)?;
        let found = linear(&Tensor::from_vec(x, (rows, k), &Device::Cpu)?, &w)?;
        // A value on the border between two may be rounded to either.
        assert_close(&found.flatten_all()?.to_vec1()?, &expected, 1e-2);
    }
    Ok(())
}
