//! From what the user wrote after `--model` to a snapshot, in one place.

use std::path::Path;
#[cfg(feature = "text")]
use std::path::PathBuf;

use super::WeightsError;

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
    /// In one GGUF file, or the first of several.
    #[cfg(feature = "text")]
    Gguf(PathBuf),
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
    if model.starts_with("gs://") {
        return Err(WeightsError::GoogleStorage(model.to_owned()));
    }
    let path = Path::new(model);
    if model != DEMO && !path.is_dir() && !path.is_file() {
        return Err(if is_gguf(path) {
            WeightsError::NoSuchGguf(model.to_owned())
        } else {
            WeightsError::NotHere(model.to_owned())
        });
    }
    files(model)
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
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
    let path = Path::new(model);
    if path.is_file() {
        return match is_gguf(path) {
            true => Ok(gguf(path)),
            false => Err(unusable(
                model,
                "it is a file whose name does not end in .gguf; of a model in safetensors, give the directory".to_owned(),
            )),
        };
    }
    if let Some(file) = only_gguf(path).map_err(|reason| unusable(model, reason))? {
        return Ok(gguf(&file));
    }
    let snapshot = Snapshot::dir(model).map_err(|error| unusable(model, error.to_string()))?;
    Ok(Resolved {
        id: name_of(Path::new(model)),
        source: Source::Snapshot(snapshot),
        description: format!("directory {model}"),
    })
}

#[cfg(feature = "text")]
fn unusable(model: &str, reason: String) -> WeightsError {
    WeightsError::Unusable {
        model: model.to_owned(),
        reason,
    }
}

/// A model in a GGUF file, called by the file's name.
#[cfg(feature = "text")]
fn gguf(path: &Path) -> Resolved {
    let stem = path
        .file_stem()
        .map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    Resolved {
        id: without_part(&stem).to_owned(),
        source: Source::Gguf(path.to_owned()),
        description: format!("GGUF file {}", path.display()),
    }
}

/// A name without `-00001-of-00003`.
#[cfg(feature = "text")]
fn without_part(stem: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once("-of-") {
        Some((rest, count)) if digits(count) => match rest.rsplit_once('-') {
            Some((base, number)) if digits(number) => base,
            _ => stem,
        },
        _ => stem,
    }
}

/// The one GGUF model of a directory without safetensors, if that is what it is: a file, or the first of a split one.
#[cfg(feature = "text")]
fn only_gguf(dir: &Path) -> Result<Option<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
            return Ok(None);
        }
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        let later = without_part(stem) != stem && !stem.contains("-00001-of-");
        if is_gguf(&path) && !later {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [first, ..] => Err(format!(
            "it holds {} GGUF files, and which one is meant is not said: give the path of one, such as {}",
            found.len(),
            first.display()
        )),
    }
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

    #[test]
    fn a_bucket_is_refused_by_name_with_what_would_do() {
        let error = resolve("gs://bucket/model").unwrap_err().to_string();
        assert!(
            error.contains("gs://bucket/model") && error.contains("CHANDLER_MODEL"),
            "{error}"
        );
    }

    #[cfg(feature = "text")]
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
        for name in [first.as_str(), folder] {
            let found = resolve(name).unwrap();
            assert_eq!(found.id, "tiny-q8");
            assert!(matches!(found.source, Source::Gguf(path) if path == Path::new(&first)));
        }
        let other = put("other.gguf");
        let error = resolve(folder).unwrap_err().to_string();
        assert!(
            error.contains("2 GGUF files") && error.contains(&other),
            "{error}"
        );
        assert_eq!(resolve(&other).unwrap().id, "other");
        put("model.safetensors");
        assert!(matches!(
            resolve(folder).unwrap().source,
            Source::Snapshot(_)
        ));
        let error = resolve(&put("weights.bin")).unwrap_err().to_string();
        assert!(error.contains(".gguf"), "{error}");
    }

    #[test]
    fn a_gguf_that_is_not_here_is_told_from_a_directory() {
        for name in ["owner/repo:file.gguf", "owner/repo/file.gguf", "no.GGUF"] {
            let error = resolve(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("hub"), "{error}");
        }
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
