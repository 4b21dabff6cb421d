//! Which tensors a model has on its device. Weights are listed as they get there, because afterwards nobody knows all of them: each
//! layer has its own. Apart from parking, since loading lists and knows nothing of what for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::weights::{HostTensor, TensorSource};

/// The tensors of one model on one device. Clones are the same list. It keeps them alive: a model and its roster go together.
#[derive(Clone)]
pub struct Roster(Arc<Entries>);

struct Entries {
    device: Device,
    tensors: Mutex<Vec<Tensor>>,
}

impl Roster {
    /// An empty list for tensors on `device`.
    pub fn new(device: &Device) -> Self {
        Self(Arc::new(Entries {
            device: device.clone(),
            tensors: Mutex::default(),
        }))
    }

    /// The list for a model whose layers are candle tensors: on a device always, on the CPU when they are `plain`. Otherwise weights
    /// are where the checkpoint has them, mapped as a rule, and there is nothing to list.
    pub fn of_model(device: &Device, plain: bool) -> Option<Self> {
        (plain || !device.is_cpu()).then(|| Self::new(device))
    }

    /// The device that its tensors are on.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Lists a tensor that the model keeps, and has all of: no view of part of another. Those on other devices, and those that are no
    /// floats, are left out.
    pub fn list(&self, tensor: &Tensor) {
        let float = matches!(tensor.dtype(), DType::F16 | DType::BF16 | DType::F32);
        if float && tensor.elem_count() > 0 && tensor.device().same_device(&self.0.device) {
            self.lock().push(tensor.clone());
        }
    }

    /// What is listed so far, in order; later ones come after these.
    pub fn tensors(&self) -> Vec<Tensor> {
        self.lock().clone()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.lock().iter().map(bytes).sum()
    }

    /// Entries come whole, so that a thread that panicked has left the list right.
    fn lock(&self) -> MutexGuard<'_, Vec<Tensor>> {
        self.0
            .tensors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Roster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roster({} tensors)", self.lock().len())
    }
}

/// The same tensors, each of which is listed when it is brought to the device; where there is a list.
pub fn listed(source: Arc<dyn TensorSource>, roster: Option<&Roster>) -> Arc<dyn TensorSource> {
    match roster {
        Some(roster) => Arc::new(Listed {
            source,
            roster: roster.clone(),
        }),
        None => source,
    }
}

/// Bytes of a tensor that has all of its storage.
pub(super) fn bytes(tensor: &Tensor) -> u64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
}

/// A source whose tensors know where they are to be listed.
struct Listed {
    source: Arc<dyn TensorSource>,
    roster: Roster,
}

impl TensorSource for Listed {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        let tensor = self.source.tensor(name)?;
        Ok(tensor.with_roster(Some(self.roster.clone())))
    }

    fn contains(&self, name: &str) -> bool {
        self.source.contains(name)
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn total_bytes(&self) -> u64 {
        self.source.total_bytes()
    }

    fn stamp(&self) -> String {
        self.source.stamp()
    }

    fn metadata(&self, name: &str) -> Option<String> {
        self.source.metadata(name)
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        self.source.prefetch(progress)
    }

    fn roster(&self) -> Option<&Roster> {
        Some(&self.roster)
    }
}
