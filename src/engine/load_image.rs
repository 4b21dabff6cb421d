//! How an image model is loaded from the worker's options: the one place where the two vocabularies meet.

use std::path::Path;

use chandler_core::LoadError;
use chandler_image::{AdapterFile, ImageError, ImageOptions, ImagePipeline, Usual, single_file};
use chandler_nn::weights::{Activations, Snapshot};

use super::beside::{Role, snapshot};
use super::load::LoadOptions;
use super::{LoadProgress, Loaded};
use crate::weights::choose::adapter;
use crate::weights::{self, Location, Source};

/// Loads a diffusion model.
pub(super) fn load(
    model: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    options.settle_threads()?;
    if options.quantize.is_some() {
        let message = "an image model is not quantised while it is loaded: leave it out";
        return Err(LoadError::context("quantize", message));
    }
    if options.activations()? != Activations::F32 {
        let message = "int8 is for quantised weights, which an image model has not: leave it out";
        return Err(LoadError::context("activations", message));
    }
    if options.max_model_len.is_some() || options.speculate > 0 {
        tracing::warn!(
            "max_model_len and speculate are for language models: an image model has no context"
        );
    }
    let image = ImageOptions {
        device: options.device()?,
        dtype: options.dtype()?,
        max_rows: options.max_rows,
        host_memory: options.host_memory,
        usual: Usual {
            steps: options.image_steps.map(|steps| steps as u32),
            guidance: options.image_guidance,
        },
        safety_checker: options.safety_checker,
        adapters: adapters(options)?,
        controls: options.opened(
            Role::Control,
            [&snapshot, &original(single_file::open_control)],
        )?,
        refiner: only(options.opened(Role::Refiner, [&pipeline, &original(single_file::open)])?),
        preview: only(options.opened(Role::Preview, [&snapshot, &|path| Err(no_directory(path))])?),
    };
    ImagePipeline::load(model, &image, &|step| progress.step(step))
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

/// The one that there may be.
fn only(mut named: Vec<(String, Snapshot)>) -> Option<Snapshot> {
    named.pop().map(|(_, snapshot)| snapshot)
}

/// Opens a file in the original layout.
fn original(
    open: fn(&Path) -> Result<Snapshot, ImageError>,
) -> impl Fn(&Path) -> Result<Snapshot, String> {
    move |path| open(path).map_err(|error| error.to_string())
}

/// A directory with a pipeline in the diffusers layout, or with one checkpoint.
fn pipeline(dir: &Path) -> Result<Snapshot, String> {
    let found = weights::resolve(&Location::Directory(dir.to_owned()));
    match found.map_err(|error| error.to_string())?.source {
        Source::Snapshot(snapshot) => Ok(snapshot),
        Source::Checkpoint(path) => original(single_file::open)(&path),
        _ => Err(format!("{} holds no image model", dir.display())),
    }
}

fn no_directory(path: &Path) -> String {
    format!(
        "{} is a file; a tiny autoencoder is a directory or repository with config.json and its weights beside it",
        path.display()
    )
}

fn adapters(options: &LoadOptions) -> Result<Vec<AdapterFile>, LoadError> {
    let named = |path: &Path| {
        let (dir, name) = (path.parent(), path.file_name());
        let (dir, name) = (dir.unwrap_or(path), name.unwrap_or_default());
        meant(dir, Some(&name.to_string_lossy()))
    };
    let adapters = options.opened(Role::Adapter, [&|dir| meant(dir, None), &named])?;
    let adapters = adapters
        .into_iter()
        .map(|(name, (snapshot, file))| AdapterFile {
            name,
            snapshot,
            file,
        });
    Ok(adapters.collect())
}

/// A directory, and the file in it that is the adapter; `named` where somebody said which.
fn meant(dir: &Path, named: Option<&str>) -> Result<(Snapshot, String), String> {
    let entries = std::fs::read_dir(dir).map_err(|error| error.to_string())?;
    let files = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let files: Vec<String> = files
        .collect::<std::io::Result<_>>()
        .map_err(|error| error.to_string())?;
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let file =
        adapter::file(&names, named).map_err(|reason| format!("{}: {reason}", dir.display()))?;
    Ok((snapshot(dir)?, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::beside::Beside;
    use crate::weights::{Kind, Wanted};

    #[test]
    fn an_adapter_is_the_file_of_its_directory_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), b"x").unwrap();
        let found = |file: Option<&str>| {
            let location = match file {
                Some(file) => Location::File(dir.path().join(file)),
                None => Location::Directory(dir.path().to_owned()),
            };
            let wanted = Wanted {
                kind: Kind::Adapter,
                ..Wanted::model(location)
            };
            let options = LoadOptions {
                beside: vec![Beside {
                    role: Role::Adapter,
                    name: "ink".to_owned(),
                    wanted,
                }],
                ..LoadOptions::default()
            };
            adapters(&options).map(|found| found[0].file.clone())
        };
        let error = found(None).unwrap_err().to_string();
        assert!(error.starts_with("adapter ink: "), "{error}");
        write("notes.txt");
        write("a.safetensors");
        assert_eq!(found(None).unwrap(), "a.safetensors");
        write("b.safetensors");
        let error = found(None).unwrap_err().to_string();
        assert!(error.contains("a.safetensors, b.safetensors"), "{error}");
        assert_eq!(found(Some("b.safetensors")).unwrap(), "b.safetensors");
    }
}
