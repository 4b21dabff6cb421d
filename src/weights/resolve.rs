//! From a location to files that a loader opens: at once where they are here, after a fetch where they are not. Apart from the
//! store, which fetches and opens nothing.

#[cfg(feature = "models")]
use std::path::{Path, PathBuf};

use super::{Location, Mock, WeightsError};
#[cfg(feature = "models")]
use super::{embedded, location, store::Fetched};

/// A model whose files are at hand, or known to be elsewhere.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the model is called in answers when nothing else was asked for.
    pub id: String,
    /// Its files.
    pub source: Source,
    /// Where it comes from, for people.
    pub description: String,
}

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum Source {
    /// Nowhere.
    Mock(Mock),
    /// In a directory or in the binary.
    #[cfg(feature = "models")]
    Snapshot(chandler_nn::weights::Snapshot),
    /// In one GGUF file, or the first of several.
    #[cfg(feature = "models")]
    Gguf(PathBuf),
    /// In one safetensors file: a diffusion model in the original layout.
    #[cfg(feature = "models")]
    Checkpoint(PathBuf),
    /// On the hub or in a bucket; perhaps in the cache.
    #[cfg(feature = "models")]
    Remote,
}

/// Finds a model's files, as far as that goes without the network.
///
/// # Errors
/// [`WeightsError`], with what would do.
pub fn resolve(location: &Location) -> Result<Resolved, WeightsError> {
    Ok(Resolved {
        id: location.id(),
        source: source(location)?,
        description: location.to_string(),
    })
}

#[cfg(not(feature = "models"))]
fn source(location: &Location) -> Result<Source, WeightsError> {
    match location {
        Location::Mock(kind) => Ok(Source::Mock(*kind)),
        other => Err(WeightsError::NoPipelines(other.to_string())),
    }
}

#[cfg(feature = "models")]
fn source(location: &Location) -> Result<Source, WeightsError> {
    match location {
        Location::Mock(kind) => Ok(Source::Mock(*kind)),
        Location::Demo(demo) => embedded::demo(*demo).map(Source::Snapshot),
        Location::Directory(path) => directory(path),
        Location::File(path) => Ok(file(path)),
        Location::Hub { .. } | Location::S3(_) | Location::Gs(_) => Ok(Source::Remote),
    }
}

/// What the store has brought.
///
/// # Errors
/// [`WeightsError::Unusable`].
#[cfg(feature = "models")]
pub fn fetched(fetched: &Fetched) -> Result<Source, WeightsError> {
    match &fetched.file {
        Some(path) => Ok(file(path)),
        None => directory(&fetched.dir),
    }
}

/// A model that is one file.
#[cfg(feature = "models")]
fn file(path: &Path) -> Source {
    match location::is_gguf(&path.to_string_lossy()) {
        true => Source::Gguf(path.to_owned()),
        false => Source::Checkpoint(path.to_owned()),
    }
}

#[cfg(feature = "models")]
fn directory(path: &Path) -> Result<Source, WeightsError> {
    let unusable = |reason: String| WeightsError::Unusable {
        model: path.display().to_string(),
        reason,
    };
    if let Some(only) = only_file(path).map_err(unusable)? {
        return Ok(file(&only));
    }
    let snapshot =
        chandler_nn::weights::Snapshot::dir(path).map_err(|error| unusable(error.to_string()))?;
    Ok(Source::Snapshot(snapshot))
}

/// What says of a directory's safetensors which model's they are.
#[cfg(feature = "models")]
const INDICES: [&str; 3] = ["config.json", "model_index.json", "adapter_config.json"];

/// The one file that a directory's model is, if that is what it is: a diffusion checkpoint with nothing that says more of it, or a
/// GGUF where there are no safetensors (of a split one the first).
#[cfg(feature = "models")]
fn only_file(dir: &Path) -> Result<Option<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| error.to_string())?;
    let (mut ggufs, mut checkpoints, mut described) = (Vec::new(), Vec::new(), false);
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        let later = location::without_part(stem) != stem && !stem.contains("-00001-of-");
        let part = location::without_part(name.trim_end_matches(".safetensors"));
        described |= INDICES.contains(&&*name)
            || name.ends_with(".safetensors.index.json")
            || name == "model.safetensors"
            || (location::is_checkpoint(&name) && part.len() + ".safetensors".len() != name.len());
        if location::is_checkpoint(&name) {
            checkpoints.push(path);
        } else if location::is_gguf(&name) && !later {
            ggufs.push(path);
        }
    }
    match (checkpoints.is_empty(), described) {
        (true, _) => one_of(ggufs, "GGUF files"),
        (false, true) => Ok(None),
        (false, false) => one_of(checkpoints, "checkpoints"),
    }
}

#[cfg(feature = "models")]
fn one_of(mut found: Vec<PathBuf>, what: &str) -> Result<Option<PathBuf>, String> {
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => Err(format!(
            "it holds {} {what}, and which one is meant is not said: give the path of one, such as {}",
            found.len(),
            first.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "models"))]
    #[test]
    fn a_build_without_pipelines_has_only_the_mock() {
        assert!(resolve(&Location::Mock(Mock::Text)).is_ok());
        let error = resolve(&Location::read("org/name").unwrap()).unwrap_err();
        assert!(error.to_string().contains("`text`"), "{error}");
    }

    #[cfg(feature = "models")]
    fn resolved(text: &str) -> Result<Resolved, WeightsError> {
        resolve(&Location::read(text)?)
    }

    #[cfg(feature = "models")]
    #[test]
    fn a_gguf_is_found_by_its_path_and_in_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"GGUF").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let folder = dir.path().to_str().unwrap();
        let first = put("tiny-q8-00001-of-00002.gguf");
        put("tiny-q8-00002-of-00002.gguf");
        assert_eq!(resolved(&first).unwrap().id, "tiny-q8");
        for name in [first.as_str(), folder] {
            let found = resolved(name).unwrap();
            assert!(matches!(found.source, Source::Gguf(path) if path == Path::new(&first)));
        }
        let other = put("other.gguf");
        let error = resolved(folder).unwrap_err().to_string();
        assert!(
            error.contains("2 GGUF files") && error.contains(&other),
            "{error}"
        );
        assert_eq!(resolved(&other).unwrap().id, "other");
        put("model.safetensors");
        assert!(matches!(
            resolved(folder).unwrap().source,
            Source::Snapshot(_)
        ));
        let error = resolved(&put("weights.bin")).unwrap_err().to_string();
        assert!(error.contains(".gguf"), "{error}");
    }

    #[cfg(feature = "models")]
    #[test]
    fn a_checkpoint_is_found_by_its_path_and_alone_in_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let folder = dir.path().to_str().unwrap();
        let first = put("dream-v8.safetensors");
        for name in [first.as_str(), folder] {
            let found = resolved(name).unwrap();
            assert!(matches!(found.source, Source::Checkpoint(path) if path == Path::new(&first)));
        }
        assert_eq!(resolved(&first).unwrap().id, "dream-v8");
        let other = put("other.safetensors");
        let error = resolved(folder).unwrap_err().to_string();
        assert!(
            error.contains("2 checkpoints") && error.contains(&first),
            "{error}"
        );
        assert_eq!(resolved(&other).unwrap().id, "other");
        put("config.json");
        assert!(matches!(
            resolved(folder).unwrap().source,
            Source::Snapshot(_)
        ));
        let error = resolved(&put("old.ckpt")).unwrap_err().to_string();
        assert!(error.contains("pickle"), "{error}");
    }

    #[cfg(feature = "models")]
    #[test]
    fn a_directory_is_called_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("tiny");
        std::fs::create_dir(&model).unwrap();
        assert_eq!(resolved(model.to_str().unwrap()).unwrap().id, "tiny");
    }

    #[cfg(feature = "models")]
    #[test]
    fn what_is_elsewhere_is_left_for_the_store() {
        let found = resolved("org/name@dev").unwrap();
        assert_eq!(found.id, "org/name");
        assert!(matches!(found.source, Source::Remote));
    }
}
