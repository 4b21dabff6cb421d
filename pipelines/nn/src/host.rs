//! The way from a candle tensor on the CPU to the numbers in it.
//! Apart because every layer takes it, and so says the same about a tensor that a kernel cannot read.

use crate::error::{NnError, Result};
use candle_core::{DType, Storage, Tensor};

/// Hands the numbers of a CPU tensor in f32 to `read`, row-major: without a copy when it lies that way.
///
/// # Errors
/// [`NnError::Input`] naming `what` when the tensor is of another dtype or on another device.
pub(crate) fn with_f32<T>(
    tensor: &Tensor,
    what: &'static str,
    read: impl FnOnce(&[f32]) -> Result<T>,
) -> Result<T> {
    if tensor.dtype() != DType::F32 || !tensor.device().is_cpu() {
        return Err(NnError::Input {
            what,
            reason: format!(
                "{:?} on {:?}; on the CPU activations are f32",
                tensor.dtype(),
                tensor.device().location()
            ),
        });
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let numbers = match &*storage {
        Storage::Cpu(cpu) => cpu.as_slice::<f32>()?,
        _ => &[],
    };
    let range = layout
        .contiguous_offsets()
        .and_then(|(start, end)| numbers.get(start..end));
    match range {
        Some(numbers) => read(numbers),
        None => Err(NnError::Input {
            what,
            reason: format!(
                "a tensor of shape {:?} is not in its storage",
                tensor.dims()
            ),
        }),
    }
}

/// `len` numbers that `write` writes. They are not zeroed before: of a picture that is a pass over memory, and on a page that
/// nobody has touched yet it takes as long as the work.
///
/// # Errors
/// [`NnError::HostMemory`] when there is no memory; what `write` says.
///
/// # Safety
/// `write` writes all `len` numbers, and reads none before, unless it fails.
pub(crate) unsafe fn written(
    len: usize,
    write: impl FnOnce(*mut f32) -> Result<()>,
) -> Result<Vec<f32>> {
    let mut numbers = Vec::<f32>::new();
    numbers
        .try_reserve_exact(len)
        .map_err(|_| NnError::HostMemory {
            bytes: len.saturating_mul(size_of::<f32>()),
        })?;
    write(numbers.as_mut_ptr())?;
    // SAFETY: the capacity is there, and the caller's promise is that every number has been written.
    unsafe { numbers.set_len(len) };
    Ok(numbers)
}
