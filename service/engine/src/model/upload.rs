//! What a batch brings to its device: token ids, positions, last rows and spans, in one copy.

#[cfg(feature = "cuda")]
use crate::kernels::cards::Staging;
use crate::kernels::{Span, Spans};
use candle_core::{Device, Result, Tensor};

/// A device's way up.
#[derive(Debug)]
pub(super) struct Uploader {
    device: Device,
    #[cfg(feature = "cuda")]
    staging: Staging,
}

/// What went up.
pub(super) struct Uploaded<const N: usize> {
    pub(super) words: [Tensor; N],
    pub(super) spans: Vec<Spans>,
}

impl Uploader {
    pub(super) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            staging: Staging::default(),
        }
    }

    /// Brings up `words`, each a vector, and `spans`, each of a call of attention.
    pub(super) fn upload<const N: usize>(
        &self,
        words: [&[u32]; N],
        spans: Vec<Vec<Span>>,
    ) -> Result<Uploaded<N>> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(card) = &self.device {
            return self.to_card(card, words, spans);
        }
        let words = try_array(words.map(|words| Tensor::new(words, &self.device)))?;
        Ok(Uploaded { words, spans: spans.into_iter().map(Spans::new).collect() })
    }

    #[cfg(feature = "cuda")]
    fn to_card<const N: usize>(
        &self,
        card: &candle_core::CudaDevice,
        words: [&[u32]; N],
        spans: Vec<Vec<Span>>,
    ) -> Result<Uploaded<N>> {
        let tiles: Vec<Vec<u32>> = spans.iter().map(|spans| Spans::tile_words(spans)).collect();
        let parts = words.into_iter().chain(tiles.iter().map(Vec::as_slice));
        let all = self.staging.upload(card, &parts.collect::<Vec<_>>().concat())?;
        let mut next = 0;
        let mut part = |count: usize| {
            next += count;
            all.narrow(0, next - count, count)
        };
        let words = try_array(words.map(|words| part(words.len())))?;
        let spans = spans.into_iter().zip(&tiles).map(|(spans, tiles)| {
            Ok(Spans::on_card(spans, part(tiles.len())?.reshape((tiles.len() / 6, 6))?))
        });
        Ok(Uploaded { words, spans: spans.collect::<Result<_>>()? })
    }
}

fn try_array<const N: usize>(results: [Result<Tensor>; N]) -> Result<[Tensor; N]> {
    let tensors = results.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(tensors.try_into().expect("as many as there were"))
}
