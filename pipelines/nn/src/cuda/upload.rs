//! Weights on their way to a GPU: all threads copy them from where they lie (the page cache, as a rule) into pinned memory, from which
//! the GPU fetches them itself while the next piece is copied, on a stream of its own. Apart from the launches because no kernel is
//! part of it. Memory that is not pinned goes through the driver's staging, one thread and twice the copying.
//! Not run on a GPU yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtrMut, DeviceRepr, DriverError,
    PinnedHostSlice, result,
};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Result as Candle, Shape, Storage, Tensor,
};
use rayon::prelude::*;

use super::gpu::wrapped;

/// A piece: long enough that the copy's start is nothing beside it.
const PIECE: usize = 32 << 20;
/// One is filled while another is fetched; the third is there when either is late.
const PIECES: usize = 3;
/// What a thread copies at a time.
const SHARE: usize = 1 << 20;

/// Pinned memory, and the stream that fetches from it.
struct Staging {
    stream: Arc<CudaStream>,
    pieces: Vec<Piece>,
    next: usize,
}

struct Piece {
    memory: PinnedHostSlice<u8>,
    /// When it has been fetched.
    fetched: Option<CudaEvent>,
}

/// The switch `staging` of `--cuda-tuning`.
static ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether weights go through pinned memory of ours, or through the driver's.
pub(crate) fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Of each GPU, made when it is first needed and kept: pinning takes longer than copying.
static STAGING: Mutex<Vec<Staging>> = Mutex::new(Vec::new());

/// A tensor of the numbers whose bytes these are; none for another device, a dtype that weights do not have, or when the switch is off.
///
/// # Errors
/// What the device says: that it is out of memory, for one.
pub(crate) fn upload(
    bytes: &[u8],
    dtype: DType,
    shape: &Shape,
    device: &Device,
) -> Candle<Option<Tensor>> {
    let Device::Cuda(cuda) = device else {
        return Ok(None);
    };
    let whole = shape.elem_count() * dtype.size_in_bytes() == bytes.len() && !bytes.is_empty();
    // A thread that waits for others' copies while it holds the staging may be given another tensor to load, if it is one of rayon's.
    let may_wait = rayon::current_thread_index().is_none();
    if !whole || !may_wait || !ENABLED.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let mut staging = STAGING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(staging) = usable(&mut staging, cuda.cuda_stream().context()) else {
        return Ok(None);
    };
    let storage = match dtype {
        DType::F16 => of::<half::f16>(bytes, cuda, staging)?,
        DType::BF16 => of::<half::bf16>(bytes, cuda, staging)?,
        DType::F32 => of::<f32>(bytes, cuda, staging)?,
        _ => return Ok(None),
    };
    let none = BackpropOp::none();
    Ok(Some(Tensor::from_storage(
        Storage::Cuda(storage),
        shape,
        none,
        false,
    )))
}

/// That of this GPU; none, once and for all, when there is no memory to be pinned.
fn usable<'a>(all: &'a mut Vec<Staging>, context: &Arc<CudaContext>) -> Option<&'a mut Staging> {
    // By what it is: each time that a GPU is opened there is another pointer to the same.
    let found = all
        .iter()
        .position(|there| **there.stream.context() == **context);
    let found = match found {
        Some(found) => found,
        None => match Staging::new(context) {
            Ok(made) => {
                all.push(made);
                all.len() - 1
            }
            Err(error) => {
                tracing::warn!(%error, "no memory could be pinned: weights are loaded through the driver's own, which is slower");
                set_enabled(false);
                return None;
            }
        },
    };
    all.get_mut(found)
}

fn of<T: CudaDType + DeviceRepr>(
    bytes: &[u8],
    cuda: &CudaDevice,
    staging: &mut Staging,
) -> Candle<CudaStorage> {
    // SAFETY: every byte of it is written below, before anything that the stream does afterwards.
    let mut made = unsafe { cuda.alloc::<T>(bytes.len() / size_of::<T>())? };
    staging
        .send(bytes, &mut made, &cuda.cuda_stream())
        .map_err(wrapped)?;
    Ok(CudaStorage::wrap_cuda_slice(made, cuda.clone()))
}

impl Staging {
    fn new(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let piece = || {
            // SAFETY: what is fetched from it is written before.
            let memory = unsafe { context.alloc_pinned::<u8>(PIECE)? };
            Ok(Piece {
                memory,
                fetched: None,
            })
        };
        Ok(Self {
            stream: context.new_stream()?,
            pieces: (0..PIECES)
                .map(|_| piece())
                .collect::<Result<_, DriverError>>()?,
            next: 0,
        })
    }

    /// Sends bytes to `to`, which is as long; what `then` does afterwards finds them there.
    fn send<T>(
        &mut self,
        bytes: &[u8],
        to: &mut CudaSlice<T>,
        then: &Arc<CudaStream>,
    ) -> Result<(), DriverError> {
        // The memory is there when the stream that it was asked of comes to it.
        self.stream.join(then)?;
        let (start, guard) = to.device_ptr_mut(then);
        let sent = self
            .pieces_of(bytes, start)
            .and_then(|()| then.join(&self.stream));
        if sent.is_err() {
            // What was begun still writes to memory that the caller is about to give back.
            self.stream.synchronize()?;
        }
        drop(guard);
        sent
    }

    fn pieces_of(&mut self, bytes: &[u8], start: u64) -> Result<(), DriverError> {
        for (at, bytes) in bytes.chunks(PIECE).enumerate() {
            let piece = &mut self.pieces[self.next];
            self.next = (self.next + 1) % PIECES;
            if let Some(fetched) = piece.fetched.take() {
                fetched.synchronize()?;
            }
            let memory = piece.memory.as_mut_slice()?;
            let memory = &mut memory[..bytes.len()];
            let shares = memory.par_chunks_mut(SHARE).zip(bytes.par_chunks(SHARE));
            shares.for_each(|(to, from)| to.copy_from_slice(from));
            // SAFETY: there is room for all bytes from `start` on, and this piece stays as it is until the event says that it was
            // fetched.
            unsafe {
                result::memcpy_htod_async(
                    start + (at * PIECE) as u64,
                    memory,
                    self.stream.cu_stream(),
                )?
            };
            piece.fetched = Some(self.stream.record_event(None)?);
        }
        Ok(())
    }
}

/// Before its memory is unpinned, nothing may be fetched from it any more.
impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.stream.synchronize() {
            tracing::warn!(%error, "the stream that weights are copied by did not end well");
        }
    }
}
