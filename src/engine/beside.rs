//! What goes beside a model: adapters, ControlNets, a refiner, a tiny autoencoder. They are fetched alike and opened each in its own way;
//! apart from `load`, which brings the model itself.

#[cfg(feature = "models")]
use std::path::Path;
#[cfg(feature = "models")]
use std::sync::Arc;

#[cfg(feature = "models")]
use chandler_core::LoadError;
#[cfg(feature = "models")]
use chandler_nn::weights::Snapshot;

#[cfg(feature = "models")]
use super::LoadProgress;
#[cfg(feature = "models")]
use super::load::LoadOptions;
#[cfg(feature = "models")]
use crate::weights::Location;
use crate::weights::Wanted;

/// What it is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An adapter (LoRA).
    Adapter,
    /// A ControlNet.
    Control,
    /// Goes on with the model's drawings.
    Refiner,
    /// Decodes previews.
    Preview,
}

impl Role {
    /// The setting that names it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Adapter => "lora",
            Self::Control => "control",
            Self::Refiner => "refiner",
            Self::Preview => "preview",
        }
    }
}

/// Something that goes beside a model.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What it is to the model.
    pub role: Role,
    /// What requests call it; empty where there is one of its role at most.
    pub name: String,
    /// Where it is.
    pub wanted: Wanted,
}

/// Opens what is at a path.
#[cfg(feature = "models")]
pub(super) type Open<'a, T> = &'a dyn Fn(&Path) -> Result<T, String>;

/// The snapshot that a directory is.
#[cfg(feature = "models")]
pub(super) fn snapshot(directory: &Path) -> Result<Snapshot, String> {
    Snapshot::dir(directory).map_err(|error| error.to_string())
}

#[cfg(feature = "models")]
impl Beside {
    fn refused(&self, reason: impl std::fmt::Display) -> LoadError {
        let what = match self.role {
            Role::Adapter => "adapter",
            other => other.setting(),
        };
        LoadError::context(format!("{what} {}", self.name).trim_end(), reason)
    }
}

#[cfg(feature = "models")]
impl LoadOptions {
    /// Fetches what goes beside the model and is elsewhere.
    pub(super) fn with_others(mut self, progress: &LoadProgress<'_>) -> Result<Self, LoadError> {
        let mut all = std::mem::take(&mut self.beside);
        for other in &mut all {
            if other.wanted.location.is_remote() {
                let fetched = self.store()?.bring(&other.wanted, progress);
                let fetched = fetched.map_err(|error| other.refused(error))?;
                other.wanted.location = match &fetched.file {
                    Some(file) => Location::File(file.clone()),
                    None => Location::Directory(fetched.dir.clone()),
                };
                self.kept.push(Arc::new(fetched));
            }
        }
        self.beside = all;
        Ok(self)
    }

    /// Opens what has a role and is here by now, directories in one way and files in another; by name.
    pub(super) fn opened<T>(
        &self,
        role: Role,
        [directory, file]: [Open<'_, T>; 2],
    ) -> Result<Vec<(String, T)>, LoadError> {
        let one = |other: &Beside| {
            let opened = match &other.wanted.location {
                Location::Directory(path) => directory(path),
                Location::File(path) => file(path),
                place => Err(format!("{place} is neither a directory nor a file")),
            };
            let opened = opened.map_err(|reason| other.refused(reason))?;
            Ok((other.name.clone(), opened))
        };
        let all = self.beside.iter().filter(|other| other.role == role);
        all.map(one).collect()
    }

    /// Refuses what the model has no use for.
    pub(super) fn refuse_all_but(&self, taken: &[Role], model: &str) -> Result<(), LoadError> {
        match self
            .beside
            .iter()
            .find(|other| !taken.contains(&other.role))
        {
            None => Ok(()),
            Some(other) => {
                let message = format!("{model} has no use for it: leave it out");
                Err(LoadError::context(other.role.setting(), message))
            }
        }
    }
}
