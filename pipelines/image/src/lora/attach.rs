//! Puts adapters beside a model's layers when it is loaded. Apart from `read`, which knows files and no layers.

use chandler_nn::lora::{AdapterConfig, WEIGHTS_FILE};
use chandler_nn::parking::listed;
use chandler_nn::weights::Snapshot;

use super::Layer;
use super::key::Place;
use super::names::Names;
use super::read::{Readable, read};
use crate::error::{ImageError, Result};
use crate::layers::Placement;

/// An adapter that is to be loaded.
#[derive(Debug, Clone)]
pub struct AdapterFile {
    /// What requests call it.
    pub name: String,
    /// The directory that it is in.
    pub snapshot: Snapshot,
    /// Its file, in safetensors.
    pub file: String,
}

/// A part of a pipeline that adapters may be for.
pub struct Part<'a> {
    /// Its folder: `unet`, `transformer`, `text_encoder`, `text_encoder_2`.
    pub folder: &'a str,
    /// Its layers.
    pub layers: Vec<Layer<'a>>,
}

impl Part<'_> {
    fn readable(&self) -> Readable {
        let place = match self.folder {
            "text_encoder" => Place::TextEncoder(1),
            "text_encoder_2" => Place::TextEncoder(2),
            "text_encoder_3" => Place::TextEncoder(3),
            _ => Place::Denoiser,
        };
        Readable {
            place,
            folder: self.folder.to_owned(),
            names: Names::new(place, &self.layers),
        }
    }
}

/// Puts adapters beside a model; a pass refers to them by their place in the list. Nothing of the model changes. Gives back the bytes
/// that they take.
///
/// # Errors
/// [`ImageError::Adapter`], which names the adapter, and its key or tensor at fault.
pub fn attach(
    parts: &mut [Part<'_>],
    adapters: &[AdapterFile],
    placement: &Placement,
) -> Result<u64> {
    let readable: Vec<Readable> = match adapters {
        [] => return Ok(0),
        _ => parts.iter().map(Part::readable).collect(),
    };
    for (number, adapter) in adapters.iter().enumerate() {
        let failed = |reason: String| ImageError::Adapter {
            name: adapter.name.clone(),
            reason,
        };
        let source = adapter.snapshot.weights_named(&adapter.file);
        let source = source.map_err(|error| failed(error.to_string()))?;
        let source = listed(source, placement.roster.as_ref());
        let own =
            (adapter.file == WEIGHTS_FILE).then(|| AdapterConfig::from_snapshot(&adapter.snapshot));
        let own = own.transpose().map_err(|error| failed(error.to_string()))?;
        let pairs = read(source.as_ref(), &readable, own)
            .map_err(|reason| failed(format!("{}: {reason}", adapter.file)))?;
        for (part, pairs) in parts.iter_mut().zip(&pairs) {
            for layer in &mut part.layers {
                layer
                    .attach(number, pairs, placement)
                    .map_err(|error| failed(error.to_string()))?;
            }
        }
    }
    let layers = parts.iter().flat_map(|part| &part.layers);
    Ok(layers.map(|layer| layer.adapter_bytes() as u64).sum())
}

/// What requests may call adapters.
///
/// # Errors
/// [`ImageError::Adapter`] for a name that two have.
pub fn names(adapters: &[AdapterFile]) -> Result<Vec<String>> {
    let names: Vec<String> = adapters
        .iter()
        .map(|adapter| adapter.name.clone())
        .collect();
    let twice = |(at, name): &(usize, &String)| names.iter().take(*at).any(|other| other == *name);
    match names.iter().enumerate().find(twice) {
        Some((_, name)) => Err(ImageError::Adapter {
            name: name.clone(),
            reason: "two are called so; give each a name of its own".to_owned(),
        }),
        None => Ok(names),
    }
}
