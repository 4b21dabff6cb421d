//! A model's weights leave their device for the host's memory and come back, without anything else of it being built again: what a
//! GPU is lent to others for while nobody asks for the model. Which tensors there are is in `roster`, how they change hands in
//! `exchange`; the copies to and from a GPU are `cuda::pinned`'s. Not run on a GPU yet.
//!
//! Weights never change, so that they are copied to the host once: from the second parking on they only go.

mod exchange;
mod host;
mod roster;
#[cfg(test)]
mod tests;

use candle_core::{Device, Result as Candle, Storage, Tensor};
use chandler_core::{Footprint, Parked, StepError};

use crate::cuda;
use crate::device::{self, failure};
use crate::error::{NnError, Result};
use exchange::exchange;
pub use roster::{Roster, listed};

/// Bytes that are copied to the host at a time: a request that comes meanwhile waits for no more. To page-lock the memory for a whole
/// model takes seconds.
const PIECE: u64 = 256 << 20;

/// Where weights are while they are not on their device.
pub(crate) trait Memory {
    /// Copies tensors, which have the numbers that follow those before. All or none.
    fn keep(&mut self, tensors: &[Tensor]) -> Result<()>;

    /// What stands in the place of a tensor that is parked: next to nothing, of its device and dtype.
    fn stub(&mut self, number: usize) -> Candle<Storage>;

    /// Memory on the device, to which the copy is on its way.
    fn bring(&mut self, number: usize) -> Candle<Storage>;

    /// Waits for what was begun.
    fn finish(&mut self) -> Candle<()>;

    /// Gives up what stood in tensors' places.
    fn discard(&mut self, stubs: Vec<Storage>);
}

/// A model's weights, on their device or parked.
pub struct Parking {
    roster: Option<Roster>,
    memory: Option<Box<dyn Memory>>,
    /// Tensors of which there is a copy on the host, and their bytes.
    kept: usize,
    kept_bytes: u64,
    /// Tensors that are not on the device, while it is parked.
    parked: Option<usize>,
}

impl Parking {
    /// Of a model whose weights are listed, when they are.
    pub fn new(roster: Option<Roster>) -> Self {
        Self {
            roster,
            memory: None,
            kept: 0,
            kept_bytes: 0,
            parked: None,
        }
    }

    #[cfg(test)]
    fn with_memory(roster: Roster, memory: Box<dyn Memory>) -> Self {
        Self {
            memory: Some(memory),
            ..Self::new(Some(roster))
        }
    }

    /// Whether weights are away.
    pub fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// Host memory that parking would still take; none where there is nothing to park.
    pub fn space(&self) -> Option<u64> {
        let roster = self.roster.as_ref()?;
        Some(roster.bytes().saturating_sub(self.kept_bytes))
    }

    /// What a model holds, in the light of what is parked.
    pub fn footprint(&self, held: Footprint) -> Footprint {
        let away = match self.is_parked() {
            true => self.kept_bytes,
            false => 0,
        };
        let on_host = self.roster.as_ref().is_some_and(|r| r.device().is_cpu());
        let (of_device, of_host) = if on_host { (0, away) } else { (away, 0) };
        Footprint {
            device_bytes: held.device_bytes.saturating_sub(of_device),
            host_bytes: held.host_bytes.saturating_sub(of_host) + self.kept_bytes,
        }
    }

    /// That a step may compute.
    ///
    /// # Errors
    /// [`StepError::Batch`] for a model that is parked.
    pub fn check_awake(&self) -> Result<(), StepError> {
        match self.parked {
            None => Ok(()),
            Some(_) => Err(StepError::Batch(
                "the model is parked and was not woken".to_owned(),
            )),
        }
    }

    /// Copies a piece of the weights to the host; when all are there, gives up the device's memory.
    ///
    /// # Errors
    /// As [`Pipeline::park`](chandler_core::Pipeline::park): nothing has moved then.
    pub fn park(&mut self) -> Result<Parked, StepError> {
        if self.is_parked() {
            return Ok(Parked::Wholly);
        }
        let Some(roster) = self.roster.clone() else {
            let message = "this model's weights are not on a device";
            return Err(StepError::Batch(message.to_owned()));
        };
        let tensors = roster.tensors();
        let piece = first(tensors.get(self.kept..).unwrap_or_default());
        match piece {
            [] => self.leave(&tensors, roster.device()),
            piece => self.keep(piece, roster.device()),
        }
    }

    fn keep(&mut self, piece: &[Tensor], device: &Device) -> Result<Parked, StepError> {
        let kept = match &mut self.memory {
            Some(memory) => memory.keep(piece),
            None => memory_of(device)
                .map_err(NnError::from)
                .and_then(|made| self.memory.insert(made).keep(piece)),
        };
        kept.map_err(|error| explained(&error, "parking", device))?;
        self.kept += piece.len();
        self.kept_bytes += piece.iter().map(roster::bytes).sum::<u64>();
        Ok(Parked::Partly)
    }

    fn leave(&mut self, tensors: &[Tensor], device: &Device) -> Result<Parked, StepError> {
        // What stands in the tensors' places is asked of the driver, from which the pool may keep all that is free.
        failure::recover(device)?;
        if let Some(memory) = &mut self.memory {
            let stubs = (0..tensors.len()).map(|number| memory.stub(number));
            let left = stubs
                .collect::<Candle<Vec<_>>>()
                .and_then(|stubs| exchange(tensors, stubs));
            drop(left.map_err(|error| explained(&error.into(), "parking", device))?);
        }
        self.parked = Some(tensors.len());
        failure::recover(device)?;
        Ok(Parked::Wholly)
    }

    /// Brings the weights back.
    ///
    /// # Errors
    /// As [`Pipeline::wake`](chandler_core::Pipeline::wake): all of them are still parked then.
    pub fn wake(&mut self) -> Result<(), StepError> {
        let (Some(count), Some(roster)) = (self.parked, self.roster.clone()) else {
            return Ok(());
        };
        let device = roster.device();
        self.check_room(device)?;
        let mut tensors = roster.tensors();
        tensors.truncate(count);
        if let Some(memory) = &mut self.memory {
            let brought = bring(memory.as_mut(), count).and_then(|all| exchange(&tensors, all));
            match brought {
                Ok(stubs) => memory.discard(stubs),
                Err(error) => {
                    // What had come already is given up; the pool would keep it from others.
                    failure::recover(device)?;
                    return Err(self.no_room(&error.into()));
                }
            }
        }
        self.parked = None;
        Ok(())
    }

    /// Brings the weights back, and takes up what the model needs besides: both, or the weights are parked again. What was not parked is
    /// not brought, but `rest` is taken up, so that this mends what an attempt before could not put back either.
    ///
    /// # Errors
    /// As [`Pipeline::wake`](chandler_core::Pipeline::wake).
    pub fn wake_with(&mut self, rest: impl FnOnce() -> Result<()>) -> Result<(), StepError> {
        self.wake()?;
        let Err(error) = rest() else {
            return Ok(());
        };
        let error = self.no_room(&error);
        // At once: the weights are on the host already.
        if let Err(error) = self.park() {
            tracing::warn!(%error, "a model for whose cache there is no room has not left again");
        }
        Err(error)
    }

    /// That the weights may find room: to take all that is left and give it back would be seen by others on the device.
    fn check_room(&self, device: &Device) -> Result<(), StepError> {
        match device::memory(device) {
            Some((free, _)) if free < self.kept_bytes => Err(StepError::OutOfMemory(format!(
                "waking a model of {} finds no room{}",
                failure::mebibytes(self.kept_bytes),
                failure::free(device)
            ))),
            _ => Ok(()),
        }
    }

    /// What a failure to bring something back means: weights, or the memory of a cache.
    fn no_room(&self, error: &NnError) -> StepError {
        let what = format!("waking a model of {}", failure::mebibytes(self.kept_bytes));
        match &self.roster {
            Some(roster) => explained(error, &what, roster.device()),
            None => StepError::Batch(error.to_string()),
        }
    }
}

/// All storages, with their contents.
fn bring(memory: &mut dyn Memory, count: usize) -> Candle<Vec<Storage>> {
    let all = (0..count).map(|number| memory.bring(number));
    let all = all.collect::<Candle<Vec<_>>>();
    // Where one was refused the others are gone already, in the stream's order; the memory that they were copied from is not.
    memory.finish().and(all)
}

/// As many as make a piece, and one at least where there are any.
fn first(tensors: &[Tensor]) -> &[Tensor] {
    let mut bytes = 0;
    let whole = tensors.iter().take_while(|tensor| {
        bytes += roster::bytes(tensor);
        bytes <= PIECE
    });
    let count = whole.count().max(1).min(tensors.len());
    tensors.get(..count).unwrap_or_default()
}

fn memory_of(device: &Device) -> Candle<Box<dyn Memory>> {
    match device {
        Device::Cpu => Ok(Box::<host::Copies>::default()),
        device => match cuda::pinned_memory(device) {
            Some(memory) => Ok(memory),
            None => candle_core::bail!("weights on {} cannot be parked", device::name(device)),
        },
    }
}

fn explained(error: &NnError, what: &str, device: &Device) -> StepError {
    let sizes = || format!("; {what}{}", failure::free(device));
    failure::of_pass(&error.to_string(), Some(error), sizes)
}
