//! From what the user wrote after `--model` to a snapshot, in one place.

use std::path::Path;

/// The name of the embedded demo model.
pub const DEMO: &str = "demo";
/// The name of the pipeline without a model, for load tests.
pub const MOCK: &str = "mock";

/// A model whose files are at hand.
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
    /// Nowhere: the mock says its prompt's words back.
    Mock,
    /// In a directory or in the binary.
    #[cfg(feature = "text")]
    Snapshot(chandler_nn::weights::Snapshot),
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Nothing by that name is here.
    #[error(
        "model `{0}` is neither `demo`, `mock` nor a directory; give the directory of a model in the Hugging Face layout \
         (config.json, tokenizer.json, *.safetensors)"
    )]
    NotHere(String),
    /// This build has no pipelines.
    #[error("model `{0}` needs a build with the feature `text`; this one has only `mock`")]
    NoPipelines(String),
    /// The directory is there and cannot be used.
    #[error("model `{model}`: {reason}")]
    Unusable {
        /// What was asked for.
        model: String,
        /// What is wrong.
        reason: String,
    },
}

/// Finds a model's files.
///
/// # Errors
/// [`WeightsError`], with what would do.
pub fn resolve(model: &str) -> Result<Resolved, WeightsError> {
    if model == MOCK {
        return Ok(Resolved {
            id: MOCK.to_owned(),
            source: Source::Mock,
            description: "the mock pipeline, which has no model".to_owned(),
        });
    }
    if model != DEMO && !Path::new(model).is_dir() {
        return Err(WeightsError::NotHere(model.to_owned()));
    }
    files(model)
}

#[cfg(not(feature = "text"))]
fn files(model: &str) -> Result<Resolved, WeightsError> {
    Err(WeightsError::NoPipelines(model.to_owned()))
}

#[cfg(feature = "text")]
fn files(model: &str) -> Result<Resolved, WeightsError> {
    use chandler_nn::weights::Snapshot;

    if model == DEMO {
        return Ok(Resolved {
            id: "chandler-demo".to_owned(),
            source: Source::Snapshot(super::embedded::demo()),
            description: "the embedded demo model".to_owned(),
        });
    }
    let snapshot = Snapshot::dir(model).map_err(|error| WeightsError::Unusable {
        model: model.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Resolved {
        id: name_of(Path::new(model)),
        source: Source::Snapshot(snapshot),
        description: format!("directory {model}"),
    })
}

/// A directory's own name, or `model` where it has none (`.`, `/`).
#[cfg(feature = "text")]
fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    full.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_is_named_with_what_would_do() {
        let error = resolve("no/such-model").unwrap_err().to_string();
        assert!(
            error.contains("no/such-model") && error.contains("directory"),
            "{error}"
        );
    }

    #[cfg(feature = "text")]
    #[test]
    fn a_directory_is_called_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("tiny");
        std::fs::create_dir(&model).unwrap();
        assert_eq!(resolve(model.to_str().unwrap()).unwrap().id, "tiny");
    }
}
