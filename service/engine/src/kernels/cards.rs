//! Cards: finding and opening them, what goes up to them, and what their errors mean.

use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUresult};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, PinnedHostSlice, result, sys};
use candle_core::cuda_backend::{CudaError, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Device, Error, Result, Storage, Tensor};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The driver's library, which comes with the driver alone.
const DRIVER: &str = "libcuda.so.1";
/// The oldest cards that have what the kernels use: tensor cores for bf16.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);

/// How many cards this process may use; `CUDA_VISIBLE_DEVICES` may hide some.
///
/// # Errors
/// A sentence that says what of the driver is missing.
pub(crate) fn count() -> std::result::Result<usize, String> {
    static LOADED: LazyLock<std::result::Result<(), String>> = LazyLock::new(|| {
        // SAFETY: the driver's initialisers are made to run in any process.
        let library = unsafe { Library::open(Some(DRIVER), RTLD_NOW | RTLD_GLOBAL) };
        // The program was linked without the driver, so that it starts where there is none: its calls
        // find their functions here, for as long as it runs.
        library.map(std::mem::forget).map_err(|error| {
            format!("the NVIDIA driver is not installed: `{DRIVER}` does not load: {error}")
        })
    });
    LOADED.clone()?;
    match CudaContext::device_count() {
        Ok(count) if count > 0 => Ok(count as usize),
        Ok(_) => Err("the NVIDIA driver shows no card to this process".to_owned()),
        Err(error) => Err(format!("the NVIDIA driver does not start: {error}")),
    }
}

/// Opens a card: one stream, products summed in f32, and freed memory kept for the next batch.
///
/// # Errors
/// A sentence that says what is missing.
pub(crate) fn open(ordinal: usize) -> std::result::Result<Device, String> {
    let count = count()?;
    if ordinal >= count {
        return Err(format!("there is no card `{ordinal}`: this process sees {count}, from 0 on"));
    }
    let failed = |error: Error| format!("card `{ordinal}` does not open: {error}");
    let device = CudaDevice::new_with_stream(ordinal).map_err(failed)?;
    let stream = device.cuda_stream();
    let (major, minor) = stream.context().compute_capability().w().map_err(failed)?;
    if (major, minor) < LEAST_CAPABILITY {
        let (least, part) = LEAST_CAPABILITY;
        return Err(format!(
            "card `{ordinal}` has compute capability {major}.{minor}; {least}.{part} is the least that \
             this build runs on (A100, L4, H100 and later)"
        ));
    }
    super::cuda::check(&device).map_err(|error| {
        format!("the NVIDIA driver does not take this build's kernels; update it: {error}")
    })?;
    // SAFETY: everything runs on the one stream, in order, and is freed on it.
    unsafe { device.disable_event_tracking() };
    set_up(&device).map_err(failed)?;
    Ok(Device::Cuda(device))
}

fn set_up(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    let mut all = u64::MAX;
    // SAFETY: the context lives; the attribute is of the type that is given.
    unsafe {
        let pool = result::device::get_default_mem_pool(stream.context().cu_device()).w()?;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()).result().w()?;
        let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        cublas::cublasSetMathMode(*device.cublas_handle().handle(), mode).result().w()
    }
}

/// The card's product name.
pub(crate) fn name(device: &CudaDevice) -> Result<String> {
    device.cuda_stream().context().name().w()
}

/// Bytes of the card's memory that nothing has taken; none if the card does not say.
pub(crate) fn free_bytes(device: &CudaDevice) -> usize {
    device.cuda_stream().context().mem_get_info().map_or(0, |(free, _)| free)
}

/// What an error of an op says about the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its memory is full: less fits.
    Memory,
    /// It computes no more in this process.
    Lost,
}

/// None for errors that do not come from the card.
pub(crate) fn fault(error: &Error) -> Option<Fault> {
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => fault(inner),
        Error::Cuda(error) => Some(match error.downcast_ref() {
            Some(CudaError::Cuda(error)) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Fault::Memory
            }
            Some(CudaError::Cublas(error))
                if error.0 == cublas::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED =>
            {
                Fault::Memory
            }
            _ => Fault::Lost,
        }),
        _ => None,
    }
}

/// Memory of the host that a card copies from by itself.
#[derive(Debug, Default)]
pub(crate) struct Staging(Mutex<Option<PinnedHostSlice<u32>>>);

impl Staging {
    /// Begins to copy `words` to the card: `[words]`.
    pub(crate) fn upload(&self, device: &CudaDevice, words: &[u32]) -> Result<Tensor> {
        let stream = device.cuda_stream();
        // The last batch was read back, so this waits only where it failed half-way.
        stream.synchronize().w()?;
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|pinned| pinned.len() < words.len()) {
            // SAFETY: the words are written before they are read.
            *slot = Some(
                unsafe { stream.context().alloc_pinned(words.len().next_power_of_two()) }.w()?,
            );
        }
        let pinned = slot.as_mut().expect("allocated above").as_mut_slice().w()?;
        let pinned = &mut pinned[..words.len()];
        pinned.copy_from_slice(words);
        let copy = device.clone_htod(&*pinned)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(copy, device.clone()));
        Ok(Tensor::from_storage(storage, words.len(), BackpropOp::none(), false))
    }
}
