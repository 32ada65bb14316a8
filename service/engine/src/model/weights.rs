//! Safetensors files to tensors: the only place that maps files.

use crate::LoadError;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use rayon::prelude::*;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The tensors of a checkpoint, by name, still in their files.
pub(crate) struct Weights {
    shards: Vec<Shard>,
    /// Tensor name to place in `shards`.
    index: HashMap<String, usize>,
}

struct Shard {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl Shard {
    /// Lets the system take back the pages of data that has been copied, so that loading does not
    /// hold the weights twice.
    fn release(&self, data: &[u8]) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            let offset = data.as_ptr() as usize - map.as_ptr() as usize;
            #[expect(unsafe_code, reason = "the advice is not in the safe list of `memmap2`")]
            // SAFETY: the mapping is never written, so a dropped page is read from the file again.
            // Advice that is not taken only costs memory.
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, data.len())
            };
        }
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, LoadError> {
        let bytes = match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => *bytes,
        };
        SafeTensors::deserialize(bytes).map_err(|error| match error {
            SafeTensorError::MetadataIncompleteBuffer
            | SafeTensorError::HeaderTooSmall
            | SafeTensorError::HeaderTooLarge
            | SafeTensorError::InvalidHeaderLength => {
                LoadError::Truncated { path: self.path.clone(), bytes: bytes.len() as u64 }
            }
            error => LoadError::Invalid { path: self.path.clone(), reason: error.to_string() },
        })
    }
}

/// `model.safetensors.index.json`
#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

impl Weights {
    /// Opens `model.safetensors` of `directory`, or the shards that its index names.
    pub(crate) fn open(directory: &Path) -> Result<Self, LoadError> {
        let mut weights = Self { shards: Vec::new(), index: HashMap::new() };
        for path in weight_files(directory)? {
            let file = File::open(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => LoadError::MissingFile(path.clone()),
                _ => LoadError::Unreadable { path: path.clone(), source },
            })?;
            #[expect(unsafe_code, reason = "the checkpoint is read through a mapping")]
            // SAFETY: the mapping is read while loading only, and its file, once open, stays
            // even if it is deleted. A file cut short in these seconds raises SIGBUS.
            let map = unsafe { Mmap::map(&file) }
                .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
            weights.add(Shard { path, bytes: Bytes::Mapped(map) })?;
        }
        Ok(weights)
    }

    /// One safetensors file that is part of the program.
    pub(crate) fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self, LoadError> {
        let mut weights = Self { shards: Vec::new(), index: HashMap::new() };
        weights.add(Shard { path: name.into(), bytes: Bytes::Embedded(bytes) })?;
        Ok(weights)
    }

    fn add(&mut self, shard: Shard) -> Result<(), LoadError> {
        for name in shard.tensors()?.names() {
            self.index.insert(name.to_owned(), self.shards.len());
        }
        self.shards.push(shard);
        Ok(())
    }

    /// The type of a tensor in its file.
    pub(crate) fn dtype(&self, name: &str) -> Result<DType, LoadError> {
        self.with(name, |view, path| match view.dtype() {
            FileDtype::F32 | FileDtype::F16 => Ok(DType::F32),
            FileDtype::BF16 => Ok(DType::BF16),
            other => Err(unsupported(name, other, path)),
        })
    }

    /// Copies tensors of equal width out of the files, one below the other.
    ///
    /// - `parts`: names with their shapes, `[rows, width]` each, or `[width]` for one row
    /// - `dtype`: f32 or bf16
    ///
    /// Returns `[sum of rows, width]`, or `[width]` for a single vector.
    pub(crate) fn load(
        &self,
        parts: &[(&str, &[usize])],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, LoadError> {
        let shape = shape(parts);
        Ok(if dtype == DType::BF16 {
            let values = self.values(parts, bf16::from_f32, |value: bf16| value)?;
            Tensor::from_vec(values, shape, device)?
        } else {
            let values = self.values(parts, |value| value, bf16::to_f32)?;
            Tensor::from_vec(values, shape, device)?
        })
    }

    /// Copies one row of a matrix of `shape`, in f32: `[1, width]`.
    pub(crate) fn load_row(
        &self,
        name: &str,
        shape: [usize; 2],
        row: usize,
        device: &Device,
    ) -> Result<Tensor, LoadError> {
        let mut values = vec![0.0; shape[1]];
        self.with(name, |view, path| {
            check_shape(name, view, &shape)?;
            let bytes = view.data().len() / shape[0];
            let data = &view.data()[row * bytes..][..bytes];
            copy(name, path, view.dtype(), data, &mut values, |value| value, bf16::to_f32)
        })?;
        Ok(Tensor::from_vec(values, (1, shape[1]), device)?)
    }

    fn values<T: Copy + Default + Send>(
        &self,
        parts: &[(&str, &[usize])],
        from_f32: impl Fn(f32) -> T + Sync,
        from_bf16: impl Fn(bf16) -> T + Sync,
    ) -> Result<Vec<T>, LoadError> {
        let mut values = vec![T::default(); parts.iter().map(|(_, shape)| count(shape)).sum()];
        let mut rest = values.as_mut_slice();
        for &(name, shape) in parts {
            let (target, after) = rest.split_at_mut(count(shape));
            rest = after;
            self.with(name, |view, path| {
                check_shape(name, view, shape)?;
                copy(name, path, view.dtype(), view.data(), target, &from_f32, &from_bf16)
            })?;
        }
        Ok(values)
    }

    fn with<R>(
        &self,
        name: &str,
        read: impl FnOnce(&TensorView<'_>, &Path) -> Result<R, LoadError>,
    ) -> Result<R, LoadError> {
        let missing = || LoadError::MissingTensor(name.to_owned());
        let shard = &self.shards[*self.index.get(name).ok_or_else(missing)?];
        let tensors = shard.tensors()?;
        let view = tensors.tensor(name).map_err(|_| missing())?;
        let result = read(&view, &shard.path);
        shard.release(view.data());
        result
    }
}

/// The weight files of a checkpoint, whether they are there or not.
pub(crate) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let path = directory.join(INDEX_FILE);
    let single = directory.join(SINGLE_FILE);
    if single.exists() || !path.exists() {
        return Ok(vec![single]);
    }
    let json = std::fs::read(&path)
        .map_err(|source| LoadError::Unreadable { path: path.clone(), source })?;
    let index: Index = serde_json::from_slice(&json)
        .map_err(|error| LoadError::Invalid { path: path.clone(), reason: error.to_string() })?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    if let Some(name) = files.iter().find(|name| name.contains(['/', '\\'])) {
        let reason = format!("`{name}` is not a file of the same directory");
        return Err(LoadError::Invalid { path, reason });
    }
    Ok(files.into_iter().map(|name| directory.join(name)).collect())
}

fn unsupported(name: &str, dtype: FileDtype, path: &Path) -> LoadError {
    LoadError::Unsupported {
        path: path.to_owned(),
        reason: format!("tensor `{name}` is {dtype:?}; only f32, f16 and bf16 are"),
    }
}

fn check_shape(name: &str, view: &TensorView<'_>, expected: &[usize]) -> Result<(), LoadError> {
    if view.shape() == expected {
        return Ok(());
    }
    Err(LoadError::WrongShape {
        name: name.to_owned(),
        found: view.shape().to_vec(),
        expected: expected.to_vec(),
    })
}

/// Copies little-endian values of the file's type to `target`; refuses what is not finite.
fn copy<T: Send>(
    name: &str,
    path: &Path,
    dtype: FileDtype,
    data: &[u8],
    target: &mut [T],
    from_f32: impl Fn(f32) -> T + Sync,
    from_bf16: impl Fn(bf16) -> T + Sync,
) -> Result<(), LoadError> {
    let finite = match dtype {
        FileDtype::F32 => convert(data, target, f32::from_le_bytes, f32::is_finite, from_f32),
        FileDtype::F16 => convert(data, target, f16::from_le_bytes, f16::is_finite, |value| {
            from_f32(value.to_f32())
        }),
        FileDtype::BF16 => convert(data, target, bf16::from_le_bytes, bf16::is_finite, from_bf16),
        other => return Err(unsupported(name, other, path)),
    };
    if finite { Ok(()) } else { Err(LoadError::NotFinite(name.to_owned())) }
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn shape(parts: &[(&str, &[usize])]) -> Vec<usize> {
    match parts {
        [(_, shape)] => shape.to_vec(),
        parts => vec![parts.iter().map(|(_, shape)| shape[0]).sum(), parts[0].1[1]],
    }
}

/// Converts little-endian values; false if one of them is not finite.
fn convert<const N: usize, F: Copy, T: Send>(
    data: &[u8],
    target: &mut [T],
    read: impl Fn([u8; N]) -> F + Sync,
    is_finite: impl Fn(F) -> bool + Sync,
    to: impl Fn(F) -> T + Sync,
) -> bool {
    const CHUNK: usize = 1 << 16;
    target
        .par_chunks_mut(CHUNK)
        .zip(data.par_chunks(CHUNK * N))
        .map(|(target, data)| {
            let mut finite = true;
            for (target, bytes) in target.iter_mut().zip(data.as_chunks::<N>().0) {
                let value = read(*bytes);
                finite &= is_finite(value);
                *target = to(value);
            }
            finite
        })
        .reduce(|| true, |a, b| a & b)
}
