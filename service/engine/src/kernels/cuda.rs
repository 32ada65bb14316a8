//! What the CUDA forms of the ops share: kernels on a card's one stream, and products by cuBLAS.
//!
//! All work of a card goes to one stream, in the order of the calls, so nothing here waits for it.

use super::launch::{Argument, Launch};
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys};
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, bail};
use std::ffi::c_void;

/// All kernels as PTX for `sm_80`, which drivers translate for every later card.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Appends a kernel to the stream of `device`.
///
/// # Safety
/// Every buffer must be an address on the device with room for what the kernel reads and writes.
pub(super) unsafe fn start(device: &CudaDevice, launch: &Launch<u64>) -> Result<()> {
    let Launch { kernel, grid: [x, y], threads, ref arguments } = *launch;
    if x == 0 || y == 0 {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(kernel, "reranker", KERNELS)?;
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::Buffer(address) => builder.arg(address),
            Argument::Number(number) => builder.arg(number),
            Argument::Float(float) => builder.arg(float),
        };
    }
    let shape =
        LaunchConfig { grid_dim: (x, y, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the arguments are the kernel's parameters, as its emulation checks; the caller's promise.
    unsafe { builder.launch(shape) }.w()?;
    Ok(())
}

/// The address of a view's first value.
pub(super) fn address(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let stream = storage.device().cuda_stream();
    let first = match &storage.slice {
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        _ => bail!("no op for {:?}", storage.dtype()),
    };
    Ok(first + (layout.start_offset() * storage.dtype().size_in_bytes()) as u64)
}

/// The address of a contiguous operand of type `dtype`.
pub(super) fn contiguous(
    op: &str,
    storage: &CudaStorage,
    layout: &Layout,
    dtype: DType,
) -> Result<u64> {
    if !layout.is_contiguous() || storage.dtype() != dtype {
        bail!("{op}: operand is not contiguous {dtype:?} but {:?} {layout:?}", storage.dtype())
    }
    address(storage, layout)
}

/// An output whose every value a kernel will write, and its address.
pub(super) fn output(
    device: &CudaDevice,
    shape: &Shape,
    dtype: DType,
) -> Result<(CudaStorage, u64)> {
    // SAFETY: nothing reads the values before the kernel that writes them, on the same stream.
    let storage = unsafe { device.alloc_uninit(shape, dtype) }?;
    let address = address(&storage, &Layout::contiguous(shape))?;
    Ok((storage, address))
}

/// `out = x wᵀ`, or `out += x wᵀ`, summed in f32.
pub(super) struct Product {
    /// `[rows, k]`, of type `inputs`.
    pub(super) x: u64,
    /// `[columns, k]`, of type `inputs`.
    pub(super) w: u64,
    /// `[rows, columns]`, of type `output`.
    pub(super) out: u64,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) k: usize,
    pub(super) inputs: DType,
    pub(super) output: DType,
    pub(super) is_added: bool,
}

impl Product {
    /// Appends the product to the stream of `device`.
    ///
    /// # Safety
    /// The addresses must be those of such matrices on the device.
    pub(super) unsafe fn start(&self, device: &CudaDevice) -> Result<()> {
        let Self { x, w, out, rows, columns, k, inputs, output, is_added } = *self;
        if rows == 0 || columns == 0 {
            return Ok(());
        }
        let (inputs, output) = (data_type(inputs)?, data_type(output)?);
        let (one, added) = (1.0f32, if is_added { 1.0f32 } else { 0.0 });
        // cuBLAS takes columns first: it is asked for the transposed product, whose columns are our rows.
        // SAFETY: the caller's promise; the factors outlive the call.
        unsafe {
            gemm_ex(
                *device.cublas_handle().handle(),
                sys::cublasOperation_t::CUBLAS_OP_T,
                sys::cublasOperation_t::CUBLAS_OP_N,
                columns as i32,
                rows as i32,
                k as i32,
                (&raw const one).cast(),
                w as *const c_void,
                inputs,
                k as i32,
                x as *const c_void,
                inputs,
                k as i32,
                (&raw const added).cast(),
                out as *mut c_void,
                output,
                columns as i32,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType_t> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType_t::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType_t::CUDA_R_16BF),
        other => bail!("linear: no product of {other:?}"),
    }
}

/// Whether the driver takes the kernels.
pub(super) fn check(device: &CudaDevice) -> Result<()> {
    device.get_or_load_custom_func("rms_norm_f32", "reranker", KERNELS).map(drop)
}
