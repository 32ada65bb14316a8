//! What the tests of the ops share.

use candle_core::{DType, Device, Result, Shape, Tensor};
use half::bf16;

/// A device and a type of activations that the ops are tested with.
pub(super) struct Run {
    pub(super) device: Device,
    pub(super) activations: DType,
}

impl Run {
    /// What may be lost where f32 may lose `single`.
    pub(super) fn tolerance(&self, single: f32) -> f32 {
        match self.activations {
            // Operands are rounded before; an intermediate and the result may be.
            DType::BF16 => 2e-2,
            _ if self.device.is_cpu() => single,
            _ => single.max(1e-5),
        }
    }

    /// The values on the device, which are rounded as it holds them.
    pub(super) fn activations(
        &self,
        values: &mut [f32],
        shape: impl Into<Shape>,
    ) -> Result<Tensor> {
        if self.activations == DType::BF16 {
            for value in values.iter_mut() {
                *value = bf16::from_f32(*value).to_f32();
            }
        }
        Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.activations)
    }
}

/// The values of a tensor of any type, on any device.
pub(super) fn read(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The CPU, and a card where there is one; else the test's output says that it was left out.
pub(super) fn runs() -> Vec<Run> {
    #[cfg_attr(not(feature = "cuda"), expect(unused_mut))]
    let mut runs = vec![Run { device: Device::Cpu, activations: DType::F32 }];
    #[cfg(feature = "cuda")]
    match super::cards::open(0) {
        Ok(device) => runs.extend(
            [DType::F32, DType::BF16]
                .map(|activations| Run { device: device.clone(), activations }),
        ),
        Err(reason) => eprintln!("skipped on cards: {reason}"),
    }
    runs
}

/// `count` values in -1..1, the same for the same `seed`.
pub(super) fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

#[track_caller]
pub(super) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!((found - expected).abs() <= allowed, "at {i}: {found}, expected {expected}");
    }
}
