//! Small things between host and GPU through pinned memory: what a pass needs to know goes there, and the tokens that it gave come back,
//! while the host goes on. Memory that is not pinned may make the host wait for all that was launched before. Apart from `upload`,
//! which has weights to carry. Not run on a GPU yet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError,
    PinnedHostSlice, result, sys,
};
use candle_core::{CudaDevice, DType, Device, Result as Candle, Storage, Tensor};

use super::gpu::wrapped;
use crate::error::Result;

/// Words of a place.
const WORDS: usize = 16 << 10;
/// Places that the GPU may be behind with: some passes' worth.
const PLACES: usize = 32;

/// Places from which a GPU fetches, one after the other.
struct Ring {
    context: Arc<CudaContext>,
    places: Vec<Place>,
    next: usize,
}

struct Place {
    memory: PinnedHostSlice<u32>,
    /// When it has been fetched.
    fetched: Option<CudaEvent>,
}

static RINGS: Mutex<Vec<Ring>> = Mutex::new(Vec::new());

/// New memory with these numbers in it.
pub(super) fn sent(cuda: &CudaDevice, numbers: &[u32]) -> Candle<CudaSlice<u32>> {
    // Beyond half of the ring they would wait for themselves.
    if !(1..=WORDS * PLACES / 2).contains(&numbers.len()) {
        return cuda.clone_htod(numbers);
    }
    // SAFETY: all of it is written before anything reads it, on the stream that it is asked of.
    let mut to = unsafe { cuda.alloc::<u32>(numbers.len())? };
    let stream = cuda.cuda_stream();
    let (start, guard) = to.device_ptr_mut(&stream);
    // SAFETY: there is room for as many.
    unsafe { send(cuda, numbers, start)? };
    drop(guard);
    Ok(to)
}

/// Writes numbers to memory, behind all that the stream was given before.
///
/// # Safety
/// The memory is on this GPU, and there is room for all of them from `start` on.
pub(super) unsafe fn send(cuda: &CudaDevice, numbers: &[u32], start: u64) -> Candle<()> {
    let stream = cuda.cuda_stream();
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ring = ring(&mut rings, stream.context());
    for (at, numbers) in numbers.chunks(WORDS).enumerate() {
        let start = start + (at * WORDS * size_of::<u32>()) as u64;
        match &mut ring {
            // SAFETY: the caller's promise, for this piece.
            Some(ring) => unsafe { ring.place().send(numbers, start, &stream) },
            // SAFETY: the same; the driver has copied them when it comes back.
            None => unsafe { result::memcpy_htod_async(start, numbers, stream.cu_stream()) },
        }
        .map_err(wrapped)?;
    }
    Ok(())
}

/// That of this GPU; none, once and for all, when there is no memory to be pinned.
fn ring<'a>(rings: &'a mut Vec<Ring>, context: &Arc<CudaContext>) -> Option<&'a mut Ring> {
    if !PINNING.load(Ordering::Relaxed) {
        return None;
    }
    // By what it is: each time that a GPU is opened there is another pointer to the same.
    let at = match rings.iter().position(|ring| *ring.context == **context) {
        Some(at) => at,
        None => {
            // SAFETY: what is fetched from it is written before.
            let memory = || unsafe { context.alloc_pinned::<u32>(WORDS) };
            let place = || {
                memory().map(|memory| Place {
                    memory,
                    fetched: None,
                })
            };
            let places: std::result::Result<_, _> = (0..PLACES).map(|_| place()).collect();
            match places {
                Ok(places) => rings.push(Ring {
                    context: context.clone(),
                    places,
                    next: 0,
                }),
                Err(error) => {
                    stop_pinning(&error);
                    return None;
                }
            }
            rings.len() - 1
        }
    };
    rings.get_mut(at)
}

/// Whether memory can be pinned, as far as is known.
static PINNING: AtomicBool = AtomicBool::new(true);

fn stop_pinning(error: &DriverError) {
    tracing::warn!(%error, "no memory could be pinned: what passes are told and what they give goes through the driver's own, and waits for what runs");
    PINNING.store(false, Ordering::Relaxed);
}

impl Place {
    /// # Safety
    /// As of [`send`]; there are no more numbers than a place has.
    unsafe fn send(
        &mut self,
        numbers: &[u32],
        start: u64,
        stream: &CudaStream,
    ) -> std::result::Result<(), DriverError> {
        if let Some(fetched) = &self.fetched {
            // On failure it counts as not fetched: the next one asks again.
            fetched.synchronize()?;
        }
        let memory = &mut self.memory.as_mut_slice()?[..numbers.len()];
        memory.copy_from_slice(numbers);
        // SAFETY: the caller's promise, and the place stays as it is until the event says that it was fetched.
        unsafe { result::memcpy_htod_async(start, memory, stream.cu_stream()) }?;
        let marked = match &self.fetched {
            Some(fetched) => fetched.record(stream),
            None => stream.record_event(None).map(|event| {
                self.fetched = Some(event);
            }),
        };
        if marked.is_err() {
            // Nothing would tell when it was fetched.
            stream.synchronize()?;
        }
        marked
    }
}

impl Ring {
    fn place(&mut self) -> &mut Place {
        let at = self.next;
        self.next = (at + 1) % self.places.len();
        &mut self.places[at]
    }
}

/// Numbers on their way from a GPU.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Lent by [`FREE`] until this is dropped.
    memory: Option<PinnedHostSlice<u32>>,
    count: usize,
    /// When they are there.
    there: CudaEvent,
}

/// Memory that no reading has: pinning takes longer than reading.
static FREE: Mutex<Vec<PinnedHostSlice<u32>>> = Mutex::new(Vec::new());

impl Reading {
    /// Begins to read; none for other tensors than of u32 on a GPU, contiguous and not very long.
    pub(crate) fn begin(tensor: &Tensor) -> Result<Option<Self>> {
        let Device::Cuda(cuda) = tensor.device() else {
            return Ok(None);
        };
        let fits = (1..=WORDS).contains(&tensor.elem_count());
        if !fits || tensor.dtype() != DType::U32 || !tensor.is_contiguous() {
            return Ok(None);
        }
        match borrowed(cuda) {
            Some(memory) => Ok(Some(Self::of(tensor, cuda, memory)?)),
            None => Ok(None),
        }
    }

    fn of(tensor: &Tensor, cuda: &CudaDevice, mut memory: PinnedHostSlice<u32>) -> Candle<Self> {
        let stream = cuda.cuda_stream();
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            candle_core::bail!("a tensor that is not on the GPU")
        };
        debug_assert_eq!(storage.dtype(), DType::U32);
        let (start, guard) = storage.as_cuda_slice::<u32>()?.device_ptr(&stream);
        let start = start + (layout.start_offset() * size_of::<u32>()) as u64;
        let count = tensor.elem_count();
        let to = &mut memory.as_mut_slice().map_err(wrapped)?[..count];
        // SAFETY: the tensor has as many numbers from `start` on. The memory is given to nobody else before the event: `drop` waits.
        unsafe { result::memcpy_dtoh_async(to, start, stream.cu_stream()) }.map_err(wrapped)?;
        drop(guard);
        match stream.record_event(None) {
            Ok(there) => Ok(Self {
                there,
                memory: Some(memory),
                count,
            }),
            Err(error) => {
                // Nothing would tell when the GPU has written to it.
                if stream.synchronize().is_err() {
                    std::mem::forget(memory);
                }
                Err(wrapped(error))
            }
        }
    }

    /// The numbers, when they are there.
    pub(crate) fn wait(self) -> Result<Vec<u32>> {
        Ok(self.numbers()?)
    }

    fn numbers(&self) -> Candle<Vec<u32>> {
        self.there.synchronize().map_err(wrapped)?;
        let Some(memory) = &self.memory else {
            candle_core::bail!("a reading without memory")
        };
        let all = memory.as_slice().map_err(wrapped)?;
        Ok(all[..self.count].to_vec())
    }
}

fn borrowed(cuda: &CudaDevice) -> Option<PinnedHostSlice<u32>> {
    if !PINNING.load(Ordering::Relaxed) {
        return None;
    }
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = free.iter().position(|there| **there.context() == **context) {
        return Some(free.swap_remove(found));
    }
    // Not write-combined: the CPU reads it. SAFETY: nothing of it is read before the GPU has written that.
    let made = unsafe { context.alloc_pinned_with_flags(WORDS, sys::CU_MEMHOSTALLOC_PORTABLE) };
    made.inspect_err(stop_pinning).ok()
}

/// The GPU may still write to the memory: it goes back when that is over, and is nobody's where that cannot be told.
impl Drop for Reading {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        match self.there.synchronize() {
            Ok(()) => FREE
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(memory),
            Err(_) => std::mem::forget(memory),
        }
    }
}
