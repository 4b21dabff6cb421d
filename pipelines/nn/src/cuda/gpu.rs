//! Work on a GPU: its modules are loaded once, and what the layers of a pass have in common goes there once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, LaunchConfig, PushKernelArg,
    SyncOnDrop,
};
use candle_core::cuda_backend::{CudaDType, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Layout, Result as Candle, Shape, Storage, Tensor,
};

use super::work::{Argument, Launch, Work, suffix};
use super::{graph, words};
use crate::error::{NnError, Result};

/// Compiled by build.rs; the linked program finds machine code for them (docker/cuda/modules.c).
const ATTENTION: (&str, &str) = (
    "chandler_attention",
    include_str!(concat!(env!("OUT_DIR"), "/chandler_attention.ptx")),
);
const LAYERS: (&str, &str) = (
    "chandler_layers",
    include_str!(concat!(env!("OUT_DIR"), "/chandler_layers.ptx")),
);
const SAMPLING: (&str, &str) = (
    "chandler_sampling",
    include_str!(concat!(env!("OUT_DIR"), "/chandler_sampling.ptx")),
);

/// The switch `fused` of `--cuda-tuning`.
static ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether the kernels here compute what they can, or candle's operations all.
pub(crate) fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

pub(super) fn is_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Writes numbers to the beginning of a tensor on a GPU, of 32 bits a number and contiguous, behind all that was launched before: where
/// that is.
pub(super) fn overwritten(tensor: &Tensor, numbers: &[u32]) -> Candle<u64> {
    let cuda = tensor.device().as_cuda_device()?;
    let fits = tensor.is_contiguous()
        && tensor.dtype().size_in_bytes() == size_of::<u32>()
        && numbers.len() <= tensor.elem_count();
    if !fits {
        candle_core::bail!(
            "{} numbers to {:?} of shape {:?}",
            numbers.len(),
            tensor.dtype(),
            tensor.dims()
        );
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        candle_core::bail!("a tensor that is not on the GPU")
    };
    let stream = cuda.cuda_stream();
    let (start, guard) = address_of(storage, layout, &stream)?;
    // SAFETY: the tensor has room for them from `start` on.
    unsafe { words::send(cuda, numbers, start)? };
    drop(guard);
    Ok(start)
}

pub(crate) fn overwrite(tensor: &Tensor, numbers: &[u32]) -> Result<()> {
    overwritten(tensor, numbers)?;
    Ok(())
}

/// Loads the kernels that the GPU can run. Where it takes none of them, as one of another generation than they were compiled for
/// does, candle's operations compute everything.
pub(crate) fn preload(cuda: &CudaDevice) {
    let load = || {
        cuda.get_or_load_custom_func("into_slots_16", LAYERS.0, LAYERS.1)?;
        cuda.get_or_load_custom_func("draw_f32", SAMPLING.0, SAMPLING.1)?;
        if Gpu(cuda.clone()).matrix_units()? {
            cuda.get_or_load_custom_func("join_f16", ATTENTION.0, ATTENTION.1)?;
        }
        Ok(())
    };
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    let loaded: Candle<()> = load();
    if let Err(error) = loaded {
        tracing::warn!(%error, "the GPU does not take chandler's own kernels: candle's operations are used, which are slower");
        set_enabled(false);
    }
}

pub(super) fn wrapped(error: DriverError) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

/// The GPU that some tensors are on.
pub(super) struct Gpu(CudaDevice);

impl Gpu {
    /// None when the kernels are switched off, or cannot be used with these tensors: on the CPU, of several dtypes or of one that there
    /// are no kernels for, or without a number.
    pub(super) fn of(tensors: &[&Tensor]) -> Result<Option<Self>> {
        let Some(first) = tensors.first() else {
            return Ok(None);
        };
        let alike = tensors.iter().all(|tensor| {
            tensor.dtype() == first.dtype()
                && tensor.device().same_device(first.device())
                && tensor.elem_count() > 0
        });
        match first.device() {
            Device::Cuda(cuda)
                if alike && suffix(first.dtype()).is_some() && ENABLED.load(Ordering::Relaxed) =>
            {
                Ok(Some(Self(cuda.clone())))
            }
            _ => Ok(None),
        }
    }

    /// None when the kernels are switched off, and for the CPU.
    pub(super) fn on(device: &Device) -> Result<Option<Self>> {
        match device {
            Device::Cuda(cuda) if is_enabled() => Ok(Some(Self(cuda.clone()))),
            _ => Ok(None),
        }
    }

    /// Whether it multiplies matrices of 16 bits as the kernels of attention do.
    pub(super) fn has_matrix_units(&self) -> Result<bool> {
        Ok(self.matrix_units()?)
    }

    fn matrix_units(&self) -> Candle<bool> {
        let stream = self.0.cuda_stream();
        Ok(stream.context().compute_capability().map_err(wrapped)?.0 >= 8)
    }

    pub(super) fn multiprocessors(&self) -> Result<usize> {
        let stream = self.0.cuda_stream();
        let found = stream
            .context()
            .attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
        Ok(usize::try_from(found.map_err(wrapped)?).unwrap_or(1))
    }

    /// Does work that has an output, and gives it.
    pub(super) fn compute(
        &self,
        work: &Work,
        tensors: &[&Tensor],
        shape: &Shape,
    ) -> Result<Tensor> {
        let Some(out) = self.run(work, tensors)? else {
            return Err(NnError::Candle(candle_core::Error::msg(
                "work without an output",
            )));
        };
        let none = BackpropOp::none();
        Ok(Tensor::from_storage(Storage::Cuda(out), shape, none, false))
    }

    /// Does work that writes into one of the tensors.
    pub(super) fn write(&self, work: &Work, tensors: &[&Tensor]) -> Result<()> {
        self.run(work, tensors)?;
        Ok(())
    }

    fn run(&self, work: &Work, tensors: &[&Tensor]) -> Candle<Option<CudaStorage>> {
        let tensors: Vec<Tensor> = tensors
            .iter()
            .map(|tensor| ready(tensor))
            .collect::<Candle<_>>()?;
        match tensors.first().map(Tensor::dtype) {
            Some(DType::F16) => self.launch::<half::f16>(work, &tensors),
            Some(DType::BF16) => self.launch::<half::bf16>(work, &tensors),
            _ => self.launch::<f32>(work, &tensors),
        }
    }

    fn launch<T: CudaDType + DeviceRepr + 'static>(
        &self,
        work: &Work,
        tensors: &[Tensor],
    ) -> Candle<Option<CudaStorage>> {
        let made = Made {
            output: match work.output {
                // SAFETY: `Work` says that what is read of it is written.
                Some(count) => Some(unsafe { self.0.alloc::<T>(count)? }),
                None => None,
            },
            scratch: work
                .scratch
                .iter()
                .map(|count| match count {
                    0 => Ok(None),
                    // SAFETY: `Work` says that none of it is read before it is written.
                    _ => unsafe { self.0.alloc::<f32>(*count) }.map(Some),
                })
                .collect::<Candle<_>>()?,
            numbers: match work.numbers.is_empty() {
                true => None,
                false => Some(self.resident(&work.numbers)?),
            },
        };
        self.all(work, tensors, &made)?;
        Ok(made
            .output
            .map(|output| CudaStorage::wrap_cuda_slice(output, self.0.clone())))
    }

    /// Gives the stream every launch.
    fn all<T: CudaDType + DeviceRepr + 'static>(
        &self,
        work: &Work,
        tensors: &[Tensor],
        made: &Made<T>,
    ) -> Candle<()> {
        let stream = self.0.cuda_stream();
        // Not every call of the driver's below does this, and the thread may be new to this GPU.
        stream.context().bind_to_thread().map_err(wrapped)?;
        let held: Vec<_> = tensors.iter().map(Tensor::storage_and_layout).collect();
        // In the order that `Work` numbers them; the guards tell other streams, if there are any, when the buffers are done with.
        let nowhere = || (0, SyncOnDrop::Sync(None));
        let mut buffers: Vec<(u64, SyncOnDrop<'_>)> = vec![];
        for (storage, layout) in &held {
            let Storage::Cuda(storage) = &**storage else {
                candle_core::bail!("a tensor that is not on the GPU")
            };
            buffers.push(address_of(storage, layout, &stream)?);
        }
        buffers.extend(made.output.iter().map(|output| output.device_ptr(&stream)));
        buffers.extend(made.scratch.iter().map(|scratch| match scratch {
            Some(scratch) => scratch.device_ptr(&stream),
            None => nowhere(),
        }));
        buffers.extend(made.numbers.iter().map(|numbers| match numbers {
            Numbers::Kept(numbers) => numbers.device_ptr(&stream),
            Numbers::Fed(address) => (*address, SyncOnDrop::Sync(None)),
        }));
        let addresses: Vec<u64> = buffers.iter().map(|(address, _)| *address).collect();
        work.launches
            .iter()
            .try_for_each(|launch| self.one(launch, &addresses))
    }

    fn one(&self, launch: &Launch, buffers: &[u64]) -> Candle<()> {
        let (module, ptx) = match launch.kernel.split_once('_') {
            Some(("many" | "few" | "join", _)) => ATTENTION,
            Some(("draw", _)) => SAMPLING,
            _ => LAYERS,
        };
        let function = self
            .0
            .get_or_load_custom_func(&launch.kernel, module, ptx)?;
        if launch.shared > USUAL_SHARED {
            let bytes = i32::try_from(launch.shared).map_err(candle_core::Error::wrap)?;
            function
                .set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes)
                .map_err(wrapped)?;
        }
        let address = |at: usize, bytes: usize| match buffers.get(at) {
            Some(address) => Ok(address + bytes as u64),
            None => candle_core::bail!("{} has no buffer {at}", launch.kernel),
        };
        let values: Vec<Value> = launch
            .arguments
            .iter()
            .map(|argument| {
                Ok(match argument {
                    Argument::Buffer(at, bytes) => Value::U64(address(*at, *bytes)?),
                    Argument::U64(value) => Value::U64(*value),
                    Argument::U32(value) => Value::U32(*value),
                    Argument::F32(value) => Value::F32(*value),
                    Argument::Words(words) => Value::Words(Words(*words)),
                })
            })
            .collect::<Candle<_>>()?;
        let mut arguments = function.builder();
        for value in &values {
            match value {
                Value::U64(value) => arguments.arg(value),
                Value::U32(value) => arguments.arg(value),
                Value::F32(value) => arguments.arg(value),
                Value::Words(value) => arguments.arg(value),
            };
        }
        let [x, y, z] = launch.grid;
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (launch.threads, 1, 1),
            shared_mem_bytes: launch.shared,
        };
        // SAFETY: the arguments are the kernel's in its order, which the tests hold against its declaration; the work was made for
        // these tensors, which are contiguous, and all its buffers live until the stream has been given what uses them.
        unsafe { arguments.launch(config) }.map_err(wrapped)?;
        Ok(())
    }

    /// Numbers on the GPU. Those asked for last are kept there: all layers of a pass have the same, and those of an image model a few.
    fn resident(&self, numbers: &[u32]) -> Candle<Numbers> {
        if let Some(address) = graph::fed(numbers)? {
            return Ok(Numbers::Fed(address));
        }
        // Entries come and go whole, so that a thread that panicked has left them right.
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept
            .iter()
            .position(|kept| kept.device == self.0.id() && kept.numbers == numbers);
        if let Some(found) = found {
            // The one that was not asked for longest goes first.
            let found = kept.remove(found);
            let there = found.there.clone();
            kept.push(found);
            return Ok(Numbers::Kept(there));
        }
        let there = Arc::new(words::sent(&self.0, numbers)?);
        // Another device's stream may be recording, and has nothing to do with what is given back here.
        let mine = |kept: &Kept| kept.device == self.0.id();
        if kept.iter().filter(|kept| mine(kept)).count() >= MOST_KEPT
            && let Some(oldest) = kept.iter().position(mine)
        {
            kept.remove(oldest);
        }
        kept.push(Kept {
            device: self.0.id(),
            numbers: numbers.to_vec(),
            there: there.clone(),
        });
        Ok(Numbers::Kept(there))
    }
}

/// What work needs beside the tensors that it is given.
struct Made<T> {
    output: Option<CudaSlice<T>>,
    /// None where no number is wanted: its address is 0.
    scratch: Vec<Option<CudaSlice<f32>>>,
    numbers: Option<Numbers>,
}

/// Where the numbers of some work lie.
enum Numbers {
    Kept(Arc<CudaSlice<u32>>),
    /// In memory that outlives a recording, which owns it.
    Fed(u64),
}

/// What a kernel may use without being told so.
const USUAL_SHARED: u32 = 48 << 10;

/// Where an argument's value lies until the launch.
enum Value {
    U64(u64),
    U32(u32),
    F32(f32),
    Words(Words),
}

#[repr(transparent)]
struct Words([u32; 10]);

// SAFETY: numbers of 32 bits one after the other, as the kernel's structure has them.
unsafe impl DeviceRepr for Words {}

struct Kept {
    device: DeviceId,
    numbers: Vec<u32>,
    there: Arc<CudaSlice<u32>>,
}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());
const MOST_KEPT: usize = 8;

/// Contiguous, and at an address that 16 bytes can be read from.
pub(super) fn ready(tensor: &Tensor) -> Candle<Tensor> {
    let offset = tensor.layout().start_offset() * tensor.dtype().size_in_bytes();
    match tensor.is_contiguous() && offset.is_multiple_of(16) {
        true => Ok(tensor.clone()),
        false => tensor.force_contiguous(),
    }
}

pub(super) fn address_of<'a>(
    storage: &'a CudaStorage,
    layout: &Layout,
    stream: &'a CudaStream,
) -> Candle<(u64, SyncOnDrop<'a>)> {
    fn of<'a, T: CudaDType + 'static>(
        storage: &'a CudaStorage,
        stream: &'a CudaStream,
    ) -> Candle<(u64, SyncOnDrop<'a>)> {
        Ok(storage.as_cuda_slice::<T>()?.device_ptr(stream))
    }
    let (start, guard) = match storage.dtype() {
        DType::F16 => of::<half::f16>(storage, stream)?,
        DType::BF16 => of::<half::bf16>(storage, stream)?,
        DType::U32 => of::<u32>(storage, stream)?,
        _ => of::<f32>(storage, stream)?,
    };
    let bytes = layout.start_offset() * storage.dtype().size_in_bytes();
    Ok((start + bytes as u64, guard))
}
