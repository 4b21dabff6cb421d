//! What is asked of CUDA itself: opening a GPU with a check of driver and GPU before it, and what is set up once. The calls and
//! nothing else; what their answers mean is decided in requirements.rs and trouble.rs.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};
use candle_core::cuda_backend::kernels;
use candle_core::cuda_backend::{
    set_gemm_reduced_precision_bf16, set_gemm_reduced_precision_f16, set_gemm_reduced_precision_f32,
};
use candle_core::{CudaDevice, Device};

use super::requirements::{Build, Code, Gpu, Version};
use super::trouble;
use super::tuning::CudaTuning;
use crate::cuda as kernels_of_ours;
use crate::error::{NnError, Result};

/// What this build was made with. The capabilities are what `docker/build-cuda.sh` compiled for.
pub(super) fn build() -> Option<Build> {
    Some(toolkit())
}

fn toolkit() -> Build {
    Build::new(
        Version::from_number(sys::CUDA_VERSION),
        option_env!("CHANDLER_CUDA_CAPABILITIES"),
    )
}

/// Opens a GPU.
pub(super) fn open(ordinal: usize, tuning: CudaTuning) -> Result<Device> {
    let unusable = |reason: String| NnError::Device(format!("cuda:{ordinal}: {reason}"));
    check(ordinal).map_err(unusable)?;
    // One stream that all threads share. candle's usual device has one per thread, and nothing orders what one thread uploads
    // before what another computes with it.
    let device = Device::new_cuda_with_stream(ordinal)
        .map_err(|error| unusable(trouble::explain(&error.to_string())))?;
    set_up(&device, tuning).map_err(|error| unusable(trouble::explain(&error.to_string())))?;
    Ok(device)
}

/// Everything that can be wrong with machine and build, in the order in which one thing needs another.
fn check(ordinal: usize) -> std::result::Result<(), String> {
    let explained = |error: DriverError| trouble::explain(&error.to_string());
    let build = toolkit();
    library("libcuda.so.1")
        .map_err(|said| format!("{}; {said}", trouble::explain("CUDA_ERROR_STUB_LIBRARY")))?;
    let driver = driver_version().map_err(explained)?;
    build.check_driver(driver)?;
    result::init().map_err(explained)?;
    let count = result::device::get_count().map_err(explained)?;
    let number = i32::try_from(ordinal)
        .ok()
        .filter(|number| *number < count)
        .ok_or_else(|| match count {
            0 => trouble::explain("CUDA_ERROR_NO_DEVICE"),
            1 => "there is one GPU here, cuda:0".to_owned(),
            _ => format!("there are {count} GPUs here, cuda:0 to cuda:{}", count - 1),
        })?;
    let gpu = gpu(number, driver).map_err(explained)?;
    if build.check_gpu(&gpu)? == Code::Ptx {
        tracing::info!(gpu = %gpu.name, "no machine code for this GPU: the driver compiles the kernels, which takes a while");
    }
    for name in [
        format!("libcublasLt.so.{}", build.toolkit.major),
        format!("libcublas.so.{}", build.toolkit.major),
        "libcurand.so.10".to_owned(),
    ] {
        library(&name).map_err(|said| {
            format!(
                "{name} cannot be loaded: it has to be where the loader finds it, in a directory of LD_LIBRARY_PATH for one ({said})"
            )
        })?;
    }
    Ok(())
}

/// Loads a shared library for good, as the first call into it would.
fn library(name: &str) -> std::result::Result<(), String> {
    let path = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the name ends with a zero byte. The libraries are NVIDIA's, whose initialisers may run at any time of the process.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(()); // never closed: what was resolved from it stays in use
    }
    // SAFETY: after a failed dlopen it is null or a text of the loader's that holds until this thread's next call to it.
    let said = unsafe {
        let said = libc::dlerror();
        (!said.is_null()).then(|| CStr::from_ptr(said).to_string_lossy().into_owned())
    };
    Err(said.unwrap_or_else(|| "the loader does not say why".to_owned()))
}

fn driver_version() -> std::result::Result<Version, DriverError> {
    let mut number = 0;
    // SAFETY: the call writes one integer, and may be made before cuInit.
    unsafe { sys::cuDriverGetVersion(&mut number) }.result()?;
    Ok(Version::from_number(u32::try_from(number).unwrap_or(0)))
}

fn gpu(number: i32, driver: Version) -> std::result::Result<Gpu, DriverError> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    };
    let device = result::device::get(number)?;
    // SAFETY: the device is one that the driver has just given us.
    let (major, minor) = unsafe {
        (
            result::device::get_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            result::device::get_attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    Ok(Gpu {
        name: result::device::get_name(device)?,
        capability: u32::try_from(major * 10 + minor).unwrap_or(0),
        driver,
    })
}

fn set_up(device: &Device, tuning: CudaTuning) -> candle_core::Result<()> {
    let cuda = device.as_cuda_device()?;
    if tuning.keep_memory {
        keep_memory(cuda).map_err(candle_core::Error::wrap)?;
    }
    if tuning.no_events {
        // SAFETY: tensors of this device are used on its one stream only. The stream that weights are copied by (cuda/upload.rs) waits
        // for this one before a copy, and this one for it after.
        unsafe { cuda.disable_event_tracking() };
    }
    set_gemm_reduced_precision_f32(tuning.tf32);
    set_gemm_reduced_precision_f16(tuning.short_sums);
    set_gemm_reduced_precision_bf16(tuning.short_sums);
    kernels_of_ours::set_up(tuning);
    if tuning.preload {
        preload(cuda)?;
        kernels_of_ours::preload(cuda);
    }
    tracing::info!(tuning = %tuning, "GPU opened");
    Ok(())
}

/// The pool that the stream's memory comes from gives nothing back unless it is told to.
fn keep_memory(cuda: &CudaDevice) -> std::result::Result<(), DriverError> {
    let Some(pool) = pool(&cuda.cuda_stream().context().clone())? else {
        return Ok(());
    };
    let mut threshold = u64::MAX;
    // SAFETY: the pool is the device's own, and the attribute is an integer of 64 bits.
    unsafe {
        result::mem_pool::set_attribute(
            pool,
            sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast(),
        )
    }
}

/// The device's memory pool, where it has one: some virtual GPUs do not.
fn pool(context: &Arc<CudaContext>) -> std::result::Result<Option<sys::CUmemoryPool>, DriverError> {
    let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if context.attribute(attribute)? == 0 {
        return Ok(None);
    }
    // SAFETY: the device is the context's.
    unsafe { result::device::get_mem_pool(context.cu_device()) }.map(Some)
}

/// Loads every module of candle's, by asking for the first kernel in it; but for the products of quantised matrices, which are
/// never called: weights are dequantised when they are loaded.
fn preload(cuda: &CudaDevice) -> candle_core::Result<()> {
    let modules = [
        kernels::AFFINE,
        kernels::BINARY,
        kernels::CAST,
        kernels::CONV,
        kernels::FILL,
        kernels::INDEXING,
        kernels::REDUCE,
        kernels::SORT,
        kernels::TERNARY,
        kernels::UNARY,
    ];
    for module in &modules {
        if let Some(name) = first_kernel(module.ptx()) {
            cuda.get_or_load_func(name, module)?;
        }
    }
    Ok(())
}

/// `.visible .entry NAME(`
fn first_kernel(ptx: &str) -> Option<&str> {
    let (_, rest) = ptx.split_once(".entry ")?;
    let (name, _) = rest.split_once('(')?;
    Some(name.trim())
}

fn context(device: &Device) -> Option<Arc<CudaContext>> {
    let device = device.as_cuda_device().ok()?;
    Some(device.cuda_stream().context().clone())
}

pub(super) fn name(device: &Device) -> Option<String> {
    context(device)?.name().ok()
}

/// Bytes that are free, those that the pool keeps and nothing uses among them, and all.
pub(super) fn memory(device: &Device) -> Option<(u64, u64)> {
    let context = context(device)?;
    let (free, total) = context.mem_get_info().ok()?;
    let kept = pool(&context).ok()?.map_or(0, |pool| {
        let reserved = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT;
        let used = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        pool_bytes(pool, reserved).saturating_sub(pool_bytes(pool, used))
    });
    Some((free as u64 + kept, total as u64))
}

/// One of the pool's counts of bytes; 0 where the driver does not say.
fn pool_bytes(pool: sys::CUmemoryPool, attribute: sys::CUmemPool_attribute) -> u64 {
    let mut bytes = 0u64;
    // SAFETY: the pool is the device's own, and these attributes are integers of 64 bits.
    let asked =
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut bytes).cast()) };
    asked.map_or(0, |()| bytes)
}

pub(crate) fn compute_capability(device: &Device) -> Option<(i32, i32)> {
    context(device)?.compute_capability().ok()
}

/// The error that waits to be told, if one does.
pub(super) fn left_behind(device: &Device) -> Option<String> {
    let error = context(device)?.check_err().err()?;
    Some(error.to_string())
}

/// Gives the pool's unused memory back to the driver, which joins it to larger pieces; the workspace of convolutions among it.
pub(super) fn give_back(device: &Device) {
    if let Ok(cuda) = device.as_cuda_device() {
        kernels_of_ours::give_up(cuda);
        // What is freed in the stream's order is the pool's when the stream has come there.
        if let Err(error) = device.synchronize() {
            tracing::warn!(%error, "the GPU does not come to an end");
        }
    }
    let trimmed = context(device).map(|context| match pool(&context) {
        // SAFETY: the pool is the device's own.
        Ok(Some(pool)) => unsafe { result::mem_pool::trim_to(pool, 0) },
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    });
    // What recorded passes took has a pool of its own.
    let recorded = context(device).map(|context| {
        // SAFETY: the device is the context's.
        unsafe { sys::cuDeviceGraphMemTrim(context.cu_device()) }.result()
    });
    for outcome in [trimmed, recorded] {
        if let Some(Err(error)) = outcome {
            tracing::warn!(%error, "the GPU's memory pool was not trimmed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kernel_of_each_module_is_found() {
        let ptx = ".version 8.4\n// .entry\n.visible .entry affine_f32(\n .param .u64 a\n)";
        assert_eq!(first_kernel("// nothing"), None);
        assert_eq!(
            first_kernel(&ptx.replace("// .entry\n", "")),
            Some("affine_f32")
        );
    }

    #[test]
    fn a_library_that_is_not_here_is_named() {
        let said = library("libno-such-thing.so.12").unwrap_err();
        assert!(said.contains("libno-such-thing.so.12"), "{said}");
        assert!(library("libc.so.6").is_ok());
    }
}
