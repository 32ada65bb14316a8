//! From the name of a device to devices.

use crate::{Device, Dtype, LoadError};

/// The devices that compute, at least one.
///
/// # Errors
/// If cards are asked for and this build, driver or machine has none of them, or they do not compute in `dtype`.
pub(super) fn open(choice: &Device, dtype: Dtype) -> Result<Vec<candle_core::Device>, LoadError> {
    let cards = match choice {
        Device::Cpu => Vec::new(),
        Device::Auto if dtype == Dtype::Q8 => Vec::new(),
        Device::Auto => usable_cards(),
        Device::Cuda(_) if dtype == Dtype::Q8 => {
            let reason = "weights of `q8` are for the CPU: choose `bf16`".to_owned();
            return Err(LoadError::NoDevice { device: choice.clone(), reason });
        }
        Device::Cuda(cards) => open_cards(cards)
            .map_err(|reason| LoadError::NoDevice { device: choice.clone(), reason })?,
    };
    Ok(if cards.is_empty() { vec![candle_core::Device::Cpu] } else { cards })
}

#[cfg(feature = "cuda")]
fn usable_cards() -> Vec<candle_core::Device> {
    use crate::kernels::cards::{count, open};
    let unused = |reason: String| tracing::warn!(%reason, "a card is not used");
    let count = count().map_err(unused).unwrap_or_default();
    (0..count).filter_map(|card| open(card).map_err(unused).ok()).collect()
}

#[cfg(not(feature = "cuda"))]
fn usable_cards() -> Vec<candle_core::Device> {
    Vec::new()
}

/// The cards of these numbers, or all there are.
#[cfg(feature = "cuda")]
fn open_cards(cards: &[usize]) -> Result<Vec<candle_core::Device>, String> {
    use crate::kernels::cards::{count, open};
    let all: Vec<usize>;
    let cards = if cards.is_empty() {
        all = (0..count()?).collect();
        &all
    } else {
        cards
    };
    cards.iter().map(|card| open(*card)).collect()
}

#[cfg(not(feature = "cuda"))]
fn open_cards(_: &[usize]) -> Result<Vec<candle_core::Device>, String> {
    Err("this build has no support for NVIDIA cards: build it with the feature `cuda`".to_owned())
}

/// The device's name for people: `cpu`, or the card's number and product.
pub(super) fn name(device: &candle_core::Device) -> String {
    match device {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(card) => {
            use candle_core::DeviceLocation::Cuda;
            use candle_core::backend::BackendDevice;
            let product = crate::kernels::cards::name(card).unwrap_or_default();
            match card.location() {
                Cuda { gpu_id } => format!("cuda:{gpu_id} {product}"),
                _ => product,
            }
        }
        _ => "cpu".to_owned(),
    }
}

/// Bytes of a card's memory that are free; none on the CPU.
pub(super) fn free_bytes(device: &candle_core::Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(card) => Some(crate::kernels::cards::free_bytes(card)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks for a card must not be served by the CPU, at a hundredth of the speed, without a word.
    #[test]
    fn a_card_that_is_not_there_is_an_error_and_not_the_cpu() {
        let open = |device: &str, dtype| open(&device.parse().expect("a device"), dtype);
        let error = open("cuda:999", Dtype::Auto).unwrap_err().to_string();
        assert!(error.starts_with("no device `cuda:999`: "), "{error}");
        let error = open("cuda", Dtype::Q8).unwrap_err().to_string();
        assert!(error.contains("choose `bf16`"), "{error}");
        for device in [open("auto", Dtype::Q8), open("cpu", Dtype::Auto)] {
            assert!(device.expect("the CPU is there").iter().all(candle_core::Device::is_cpu));
        }
        assert!(!open("auto", Dtype::Auto).expect("something computes").is_empty());
    }
}
