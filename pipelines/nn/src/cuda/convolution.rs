//! Convolutions through cuDNN where descriptors, algorithm and size of the workspace are found out once a shape; candle does all of it,
//! and fills the workspace with zeros, at each call. Apart from `plans`, which decides, and `cudnn`, which has the calls.
//! Not run on a GPU yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cudnn::CudnnError;
use candle_core::cuda_backend::cudarc::driver::sys::CUresult;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtrMut, DeviceRepr, DriverError,
};
use candle_core::cuda_backend::{CudaDType, DeviceId};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result as Candle, Storage, Tensor};

use super::Convolution;
use super::cudnn::{Buffers, Descriptors, Handle, How, is_refusal};
use super::gpu::{address_of, ready, wrapped};
use super::plans::{Recent, Shape, Tried, Way, kept, try_ways};
use crate::device::CudaTuning;
use crate::error::Result;

/// Shapes whose plans are kept, each some hundred bytes of the host's: an image model has about a hundred for a size and a batch.
const MOST_PLANS: usize = 2048;
/// Workspaces up to this part of the GPU's memory. Half precision wants its tensors with the channels last and turns them round in the
/// workspace, input and output: 1 GiB for 256 channels of a megapixel. What is beyond this is for algorithms that trade memory for
/// little.
const PART_OF_MEMORY: usize = 8;
/// Devices with a handle, of those that are used: a process has one for each of its models.
const MOST_OPENED: usize = 4;

/// The switch `plans` of `--cuda-tuning`.
static ENABLED: AtomicBool = AtomicBool::new(true);
/// Its switch `tf32`, the other way round.
static EXACT: AtomicBool = AtomicBool::new(true);

/// Which convolutions are done here, and how, from now on.
pub(super) fn set_up(tuning: CudaTuning) {
    ENABLED.store(tuning.plans, Ordering::Relaxed);
    EXACT.store(!tuning.tf32, Ordering::Relaxed);
}

/// `x` [batch, channels, height, width] by `weight` [outputs, channels / groups, height, width]. None on other devices, with the switch
/// off, and for what cuDNN does not do; candle is asked then.
///
/// # Errors
/// What the device says: that it is out of memory, for one.
pub(crate) fn convolve(
    x: &Tensor,
    weight: &Tensor,
    convolution: &Convolution,
) -> Result<Option<Tensor>> {
    let Device::Cuda(cuda) = x.device() else {
        return Ok(None);
    };
    let alike = x.dtype() == weight.dtype() && x.device().same_device(weight.device());
    if !alike || !ENABLED.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let numbers = (x.dtype(), EXACT.load(Ordering::Relaxed));
    let Some(shape) = Shape::of(numbers, (x.dims(), weight.dims()), convolution) else {
        return Ok(None);
    };
    let given = [&ready(x)?, &ready(weight)?];
    let made = match shape.dtype {
        DType::F16 => of::<half::f16>(cuda, shape, given)?,
        DType::BF16 => of::<half::bf16>(cuda, shape, given)?,
        _ => of::<f32>(cuda, shape, given)?,
    };
    Ok(made.map(|made| {
        let none = BackpropOp::none();
        Tensor::from_storage(Storage::Cuda(made), &shape.dims()[..], none, false)
    }))
}

/// Lets go of the workspace that is kept.
pub(crate) fn give_up(cuda: &CudaDevice) {
    let mut all = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let of_this = all.iter_mut().filter(|opened| opened.device == cuda.id());
    of_this.for_each(|opened| opened.workspace = None);
}

fn of<T: CudaDType + DeviceRepr>(
    cuda: &CudaDevice,
    shape: Shape,
    [x, weight]: [&Tensor; 2],
) -> Candle<Option<CudaStorage>> {
    let stream = cuda.cuda_stream();
    // cuDNN takes the GPU that the thread is bound to, and the thread may be new to this one.
    stream.context().bind_to_thread().map_err(wrapped)?;
    // SAFETY: a convolution that was done has written every number, and one that was not gives none of them away.
    let mut out = unsafe { cuda.alloc::<T>(shape.count())? };
    let done = {
        let ((x, x_layout), (weight, weight_layout)) =
            (x.storage_and_layout(), weight.storage_and_layout());
        let (Storage::Cuda(x), Storage::Cuda(weight)) = (&*x, &*weight) else {
            candle_core::bail!("a tensor that is not on the GPU")
        };
        // The guards tell other streams, if there are any, when the buffers are done with.
        let (x, _x) = address_of(x, x_layout, &stream)?;
        let (weight, _weight) = address_of(weight, weight_layout, &stream)?;
        let (out, _out) = out.device_ptr_mut(&stream);
        let workspace = (0, 0);
        let buffers = Buffers {
            x,
            weight,
            out,
            workspace,
        };
        let mut all = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        Opened::of(&mut all, cuda)?.convolve(shape, buffers)?
    };
    Ok(done.then(|| CudaStorage::wrap_cuda_slice(out, cuda.clone())))
}

/// What is kept for a device, which is one stream: whatever uses the workspace does so after what used it before.
struct Opened {
    device: DeviceId,
    /// None for a shape that cuDNN does not take.
    plans: Recent<Shape, Option<Plan>>,
    workspace: Option<CudaSlice<u8>>,
    /// Bytes of a workspace, at most.
    most: usize,
    handle: Handle,
    stream: Arc<CudaStream>,
}

/// One of each device that convolves, the one used last at the end. Threads take turns, as a handle wants it: cuDNN is as well off with one
/// thread after the other as with one alone, and this way there is one workspace to be given up, whoever asks for it.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

// SAFETY: cuDNN's handle and descriptors are bound to no thread; they may not be used by two at a time, which the lock sees to.
unsafe impl Send for Opened {}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Err(error) = self.stream.context().bind_to_thread() {
            tracing::warn!(%error, "cuDNN is given back without its GPU at hand");
        }
    }
}

impl Opened {
    fn of<'a>(all: &'a mut Vec<Self>, cuda: &CudaDevice) -> Candle<&'a mut Self> {
        let found = all.iter().position(|opened| opened.device == cuda.id());
        let opened = match found {
            Some(found) => all.remove(found),
            None => {
                all.retain(Self::is_used);
                Self::new(cuda)?
            }
        };
        if all.len() >= MOST_OPENED {
            all.remove(0);
        }
        all.push(opened);
        // A handle that went was given back with its own GPU at hand.
        cuda.cuda_stream()
            .context()
            .bind_to_thread()
            .map_err(wrapped)?;
        match all.last_mut() {
            Some(opened) => Ok(opened),
            None => candle_core::bail!("no device after one was added"),
        }
    }

    fn new(cuda: &CudaDevice) -> Candle<Self> {
        let stream = cuda.cuda_stream();
        let memory = stream.context().total_mem().map_err(wrapped)?;
        Ok(Self {
            device: cuda.id(),
            plans: Recent::new(MOST_PLANS),
            workspace: None,
            most: memory / PART_OF_MEMORY,
            handle: Handle::new(&stream).map_err(failed)?,
            stream,
        })
    }

    /// Whether anything else than this still holds its stream: a device that was closed does not, and each load opens another.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.stream) > 1 + usize::from(self.workspace.is_some())
    }

    /// Gives the stream the convolution; whether there was a way.
    fn convolve(&mut self, shape: Shape, buffers: Buffers) -> Candle<bool> {
        let Self {
            plans,
            workspace,
            most,
            handle,
            stream,
            ..
        } = self;
        let Some(plan) = plans.get_or_make(shape, || Plan::of(handle, &shape, *most))? else {
            return Ok(false);
        };
        let mut lacking = None;
        let Plan { descriptors, ways } = plan;
        let had_ways = !ways.is_empty();
        let done = try_ways(ways, |way| {
            let launch = |workspace| {
                let buffers = Buffers {
                    workspace: (workspace, way.bytes),
                    ..buffers
                };
                // SAFETY: the shape was made of these tensors; they and the workspace are the stream's, which frees nothing before it
                // is done with it, and goes through one thing after the other.
                unsafe { handle.convolve(descriptors, way.how, buffers) }
            };
            match with_workspace(workspace, stream, way.bytes, launch) {
                Ok(Ok(())) => Ok(Tried::Done),
                Ok(Err(error)) if is_refusal(&error) => {
                    tracing::debug!(%error, ?way, ?shape, "cuDNN does not convolve this way");
                    Ok(Tried::Refused)
                }
                Ok(Err(error)) => Err(failed(error)),
                Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                    lacking = Some(error);
                    Ok(Tried::NoRoom)
                }
                Err(error) => Err(wrapped(error)),
            }
        })?;
        match (done, lacking) {
            (Tried::Done, _) => Ok(true),
            (_, Some(error)) => Err(wrapped(error)),
            (_, None) => {
                if had_ways && ways.is_empty() {
                    tracing::warn!(
                        ?shape,
                        "cuDNN does nothing that it has named for this convolution: it is left to candle, which is slower"
                    );
                }
                Ok(false)
            }
        }
    }
}

/// What is known of a shape.
struct Plan {
    descriptors: Descriptors,
    ways: Vec<Way<How>>,
}

impl Plan {
    /// None where cuDNN takes no such shape.
    fn of(handle: &Handle, shape: &Shape, most: usize) -> Candle<Option<Self>> {
        let made = Descriptors::new(shape).and_then(|descriptors| {
            let mut ways = handle.ways(&descriptors)?;
            ways.retain(|way| way.bytes <= most);
            Ok(Self { descriptors, ways })
        });
        match made {
            Ok(plan) => {
                tracing::debug!(?shape, ways = ?plan.ways, "a convolution's shape is new");
                Ok(Some(plan))
            }
            Err(error) if is_refusal(&error) => {
                tracing::debug!(%error, ?shape, "cuDNN takes no convolution of this shape");
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Runs with the address of so many bytes, which are whatever they are: those that are kept, or others for this once.
fn with_workspace<R>(
    workspace: &mut Option<CudaSlice<u8>>,
    stream: &Arc<CudaStream>,
    bytes: usize,
    run: impl FnOnce(u64) -> R,
) -> std::result::Result<R, DriverError> {
    if bytes == 0 {
        return Ok(run(0));
    }
    // SAFETY: cuDNN reads nothing of a workspace that it has not written.
    let made = |bytes| unsafe { stream.alloc::<u8>(bytes) };
    let Some(size) = kept(bytes) else {
        let mut lent = made(bytes)?;
        let (address, _guard) = lent.device_ptr_mut(stream);
        return Ok(run(address));
    };
    let large_enough = workspace.take_if(|kept| kept.len() >= bytes);
    // The smaller one goes first: there need not be room for both.
    *workspace = None;
    let workspace = workspace.insert(match large_enough {
        Some(kept) => kept,
        None => made(size)?,
    });
    let (address, _guard) = workspace.device_ptr_mut(stream);
    Ok(run(address))
}

fn failed(error: CudnnError) -> candle_core::Error {
    candle_core::Error::wrap(error)
}
