//! How an image model is loaded from the worker's options: the one place where the two vocabularies meet.

use chandler_core::LoadError;
use chandler_image::{AdapterFile, ImageOptions, ImagePipeline, Usual};
use chandler_nn::weights::Snapshot;

use super::load::LoadOptions;
use super::{LoadProgress, Loaded};
use crate::weights::choose::adapter;

/// Loads a diffusion model.
pub(super) fn load(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    options.settle_threads()?;
    if options.quantize.is_some() {
        let message = "an image model is not quantised while it is loaded: leave it out";
        return Err(LoadError::context("quantize", message));
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
        controls: options.controls()?,
    };
    ImagePipeline::load(snapshot, &image, &|step| progress.step(step))
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

fn adapters(options: &LoadOptions) -> Result<Vec<AdapterFile>, LoadError> {
    let adapters = options.adapter_directories()?;
    let adapters = adapters.into_iter().map(|(name, path, wanted)| {
        let refuse = |reason: String| LoadError::context(&format!("adapter {name}"), reason);
        let entries = std::fs::read_dir(path).map_err(|error| refuse(error.to_string()))?;
        let files = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let files: Vec<String> = files
            .collect::<std::io::Result<_>>()
            .map_err(|error| refuse(error.to_string()))?;
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let file = adapter::file(&names, wanted)
            .map_err(|reason| refuse(format!("{}: {reason}", path.display())))?;
        let snapshot = Snapshot::dir(path).map_err(|error| refuse(error.to_string()))?;
        Ok(AdapterFile {
            name: name.to_owned(),
            snapshot,
            file,
        })
    });
    adapters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Kind, Location, Wanted};

    #[test]
    fn an_adapter_is_the_file_of_its_directory_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), b"x").unwrap();
        let found = |file: Option<&str>| {
            let wanted = Wanted {
                kind: Kind::Adapter,
                file: file.map(str::to_owned),
                ..Wanted::model(Location::Directory(dir.path().to_owned()))
            };
            let options = LoadOptions {
                adapters: vec![("ink".to_owned(), wanted)],
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
