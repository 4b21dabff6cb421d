//! Small things between host and GPU through pinned memory: what a pass needs to know goes there, and the tokens that it gave come back,
//! while the host goes on. Memory that is not pinned may make the host wait for all that was launched before. Apart from `upload`,
//! which has weights to carry. Not run on a GPU yet.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, DevicePtr, DevicePtrMut, PinnedHostSlice, result, sys,
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
    device: DeviceId,
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
    if !(1..=WORDS).contains(&numbers.len()) {
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
    let ring = ring(&mut rings, cuda)?;
    for (at, numbers) in numbers.chunks(WORDS).enumerate() {
        let place = ring.place();
        if let Some(fetched) = place.fetched.take() {
            fetched.synchronize().map_err(wrapped)?;
        }
        let memory = place.memory.as_mut_slice().map_err(wrapped)?;
        let memory = &mut memory[..numbers.len()];
        memory.copy_from_slice(numbers);
        let start = start + (at * WORDS * size_of::<u32>()) as u64;
        // SAFETY: the caller's promise, and the place stays as it is until the event says that it was fetched.
        unsafe { result::memcpy_htod_async(start, memory, stream.cu_stream()) }.map_err(wrapped)?;
        place.fetched = Some(stream.record_event(None).map_err(wrapped)?);
    }
    Ok(())
}

fn ring<'a>(rings: &'a mut Vec<Ring>, cuda: &CudaDevice) -> Candle<&'a mut Ring> {
    let at = match rings.iter().position(|ring| ring.device == cuda.id()) {
        Some(at) => at,
        None => {
            rings.push(Ring {
                device: cuda.id(),
                places: Vec::new(),
                next: 0,
            });
            rings.len() - 1
        }
    };
    let ring = &mut rings[at];
    if ring.places.is_empty() {
        let stream = cuda.cuda_stream();
        let place = || {
            // SAFETY: what is fetched from it is written before.
            let memory = unsafe { stream.context().alloc_pinned::<u32>(WORDS) };
            memory.map(|memory| Place {
                memory,
                fetched: None,
            })
        };
        let places: std::result::Result<_, _> = (0..PLACES).map(|_| place()).collect();
        ring.places = places.map_err(wrapped)?;
    }
    Ok(ring)
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
        Ok(Some(Self::of(tensor, cuda)?))
    }

    fn of(tensor: &Tensor, cuda: &CudaDevice) -> Candle<Self> {
        let stream = cuda.cuda_stream();
        let mut memory = borrowed(cuda)?;
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
        Ok(Self {
            there: stream.record_event(None).map_err(wrapped)?,
            memory: Some(memory),
            count,
        })
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

fn borrowed(cuda: &CudaDevice) -> Candle<PinnedHostSlice<u32>> {
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let found = free.iter().position(|there| **there.context() == **context);
    match found {
        Some(found) => Ok(free.swap_remove(found)),
        // Not write-combined: the CPU reads it. SAFETY: nothing of it is read before the GPU has written that.
        None => unsafe { context.alloc_pinned_with_flags(WORDS, sys::CU_MEMHOSTALLOC_PORTABLE) }
            .map_err(wrapped),
    }
}

/// The GPU may still write to the memory: it goes back when that is over. On a GPU that is lost it is over.
impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take()
            && self.there.synchronize().is_ok()
        {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            free.push(memory);
        }
    }
}
