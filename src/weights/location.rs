//! What `--model`, models.toml and `--lora` may say: a text becomes a place, and nothing is looked for yet but paths. Apart
//! from the store, which goes there.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{WeightsError, names};

/// A model that is compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    /// It chats.
    Chat,
    /// It recognises speech.
    Speech,
    /// It draws.
    Image,
}

impl Demo {
    const ALL: [Self; 3] = [Self::Chat, Self::Speech, Self::Image];

    /// What it is called.
    fn name(self) -> &'static str {
        match self {
            Self::Chat => "demo",
            Self::Speech => "demo-asr",
            Self::Image => "demo-image",
        }
    }
}

/// A pipeline without a model, for load tests and for trying front doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mock {
    /// It says its prompt's words back.
    Text,
    /// It hears text.
    Speech,
    /// It draws gradients.
    Image,
}

impl Mock {
    const ALL: [Self; 3] = [Self::Text, Self::Speech, Self::Image];

    /// What it is called.
    fn name(self) -> &'static str {
        match self {
            Self::Text => "mock",
            Self::Speech => "mock-asr",
            Self::Image => "mock-image",
        }
    }
}

/// A place that a model or an adapter is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Nowhere.
    Mock(Mock),
    /// In this program.
    Demo(Demo),
    /// A directory here.
    Directory(PathBuf),
    /// One file here: a GGUF (or the first of several), a diffusion checkpoint in the original layout, an adapter.
    File(PathBuf),
    /// A repository on the Hugging Face hub.
    Hub {
        /// `org/name`, or `name` of the oldest ones.
        repo: String,
        /// What stood behind the `@`.
        revision: Option<String>,
        /// Which file of it, where one is meant.
        file: Option<FileChoice>,
    },
    /// A bucket that speaks S3.
    S3(Bucket),
    /// A bucket of Google Cloud Storage.
    Gs(Bucket),
}

/// A folder in a bucket, or a model's one file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub bucket: String,
    /// The folder: without a slash at either end; may be empty.
    pub prefix: String,
    /// The file in that folder, where one was named.
    pub file: Option<String>,
}

/// Which file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChoice {
    /// This one, or the split GGUF whose first part it is.
    File(String),
    /// The GGUF of this quantisation: `Q4_K_M`.
    Quant(String),
}

impl FileChoice {
    /// What was written.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::File(name) | Self::Quant(name) => name,
        }
    }
}

impl Location {
    /// Reads what somebody wrote. A path that exists wins over a repository of the same name.
    ///
    /// # Errors
    /// [`WeightsError`] with what would do.
    pub fn read(text: &str) -> Result<Self, WeightsError> {
        if let Some(mock) = Mock::ALL.into_iter().find(|mock| mock.name() == text) {
            return Ok(Self::Mock(mock));
        }
        if let Some(demo) = Demo::ALL.into_iter().find(|demo| demo.name() == text) {
            return Ok(Self::Demo(demo));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return Bucket::read(text, rest).map(Self::S3);
        }
        if let Some(rest) = text.strip_prefix("gs://") {
            return Bucket::read(text, rest).map(Self::Gs);
        }
        if let Some(rest) = text.strip_prefix("hf://") {
            return hub(rest);
        }
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if path.is_file() {
            return model_file(path);
        }
        match meant_as_path(text) {
            false => hub(text),
            true if is_model_file(text) => Err(WeightsError::NoSuchFile(text.to_owned())),
            true => Err(WeightsError::NotHere(text.to_owned())),
        }
    }

    /// Whether it is fetched from somewhere else.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Hub { .. } | Self::S3(_) | Self::Gs(_))
    }

    /// The file that is meant, where one was named: its path or name, or a GGUF's quantisation.
    pub fn file(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::File(path) => Some(path.to_string_lossy()),
            Self::Hub { file, .. } => file.as_ref().map(|choice| choice.as_str().into()),
            Self::S3(place) | Self::Gs(place) => place.file.as_deref().map(Cow::from),
            Self::Mock(_) | Self::Demo(_) | Self::Directory(_) => None,
        }
    }

    /// What the model is called when nobody says otherwise.
    pub fn id(&self) -> String {
        match self {
            Self::Mock(mock) => mock.name().to_owned(),
            Self::Demo(demo) => format!("chandler-{}", demo.name()),
            Self::Directory(path) => directory_name(path),
            Self::File(path) => file_name(&path.to_string_lossy()),
            Self::Hub {
                file: Some(FileChoice::File(file)),
                ..
            } => file_name(file),
            Self::Hub { repo, .. } => repo.clone(),
            Self::S3(place) | Self::Gs(place) => place.id(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mock(_) => f.write_str("the mock pipeline, which has no model"),
            Self::Demo(_) => f.write_str("the embedded demo model"),
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Hub {
                repo,
                revision,
                file,
            } => {
                f.write_str(repo)?;
                if let Some(revision) = revision {
                    write!(f, "@{revision}")?;
                }
                match file {
                    Some(choice) => write!(f, ":{}", choice.as_str()),
                    None => Ok(()),
                }
            }
            Self::S3(place) => write!(f, "s3://{place}"),
            Self::Gs(place) => write!(f, "gs://{place}"),
        }
    }
}

impl Bucket {
    fn read(text: &str, rest: &str) -> Result<Self, WeightsError> {
        let bad = || WeightsError::BadName {
            what: "bucket",
            value: text.escape_debug().take(200).collect(),
            wanted: "give s3://bucket/prefix or gs://bucket/prefix; buckets are called by letters, digits, `-`, `_` and `.`",
        };
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let named = !bucket.is_empty() && bucket.chars().all(plain) && !bucket.starts_with('.');
        if !named {
            return Err(bad());
        }
        let path = path.trim_matches('/');
        if !path.is_empty() {
            names::file_path(path)?;
        }
        let (prefix, file) = match path.rsplit_once('/') {
            _ if !is_model_file(path) => (path, None),
            Some((prefix, file)) => (prefix, Some(file.to_owned())),
            None => ("", Some(path.to_owned())),
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            file,
        })
    }

    fn id(&self) -> String {
        let last = self
            .prefix
            .rsplit('/')
            .next()
            .filter(|last| !last.is_empty());
        match (&self.file, last) {
            (Some(file), _) => file_name(file),
            (None, Some(last)) => last.to_owned(),
            (None, None) => self.bucket.clone(),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bucket)?;
        for part in [Some(&self.prefix), self.file.as_ref()]
            .into_iter()
            .flatten()
        {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// A file by its name alone is a model as GGUF, or as a diffusion checkpoint in safetensors.
fn model_file(path: &Path) -> Result<Location, WeightsError> {
    let name = path.to_string_lossy();
    if is_model_file(&name) {
        return Ok(Location::File(path.to_owned()));
    }
    let pickle = [".ckpt", ".pt", ".pth", ".bin"]
        .iter()
        .any(|end| name.ends_with(end));
    let reason = match pickle {
        true => {
            "it is a pickle, which is a program and is never opened: convert it to a .safetensors or .gguf file"
        }
        false => {
            "it is a file whose name ends neither in .gguf nor in .safetensors (a diffusion checkpoint in one file); of any other \
             model in safetensors, give the directory"
        }
    };
    Err(WeightsError::Unusable {
        model: name.into_owned(),
        reason: reason.to_owned(),
    })
}

/// Whether a whole model may be in a file of this name.
fn is_model_file(path: &str) -> bool {
    is_gguf(path) || is_checkpoint(path)
}

/// Whether it would be a diffusion checkpoint in one file.
pub(super) fn is_checkpoint(path: &str) -> bool {
    path.ends_with(".safetensors")
}

pub(super) fn is_gguf(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// Whether a text that names nothing here was meant as a path all the same.
fn meant_as_path(text: &str) -> bool {
    let like_a_path = text.is_empty()
        || text.starts_with(['/', '.', '~'])
        || text.ends_with('/')
        || text.contains('\\')
        || text.contains("://");
    let (name, choice) = split_choice(text);
    let repo = name.split('@').next().unwrap_or(name);
    let whole = match (repo.matches('/').count(), is_model_file(repo)) {
        // No repository is called `file.gguf` or `file.safetensors`, and none has three parts.
        (0 | 1, true) | (2.., false) => false,
        // `models/llama` beside a directory `models`: somebody meant what is in it.
        _ => !repo
            .split_once('/')
            .is_some_and(|(first, _)| Path::new(first).is_dir()),
    };
    like_a_path || (!whole && choice.is_none())
}

/// `org/name@revision:choice` without its choice, and the choice.
fn split_choice(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, choice)) => (name, Some(choice)),
        None => (text, None),
    }
}

/// `org/name`, `org/name@revision`, `org/name:file.gguf`, `org/name:Q4_K_M`, `org/name/file.gguf`, `org/name@revision/file.gguf`; with
/// .safetensors alike.
fn hub(text: &str) -> Result<Location, WeightsError> {
    let (name, choice) = match split_choice(text) {
        // No revision is called like a file.
        (name, None) if name.contains('@') && is_model_file(name) => match name.rsplit_once('/') {
            Some((name, file)) if name.contains('@') => (name, Some(file)),
            _ => (name, None),
        },
        split => split,
    };
    let (name, revision) = match name.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (name, None),
    };
    let (repo, file) = match choice {
        Some(choice) => (name, Some(file_choice(choice)?)),
        None if is_model_file(name) && name.matches('/').count() >= 2 => {
            let second = name
                .match_indices('/')
                .nth(1)
                .map_or(name.len(), |(at, _)| at);
            let (repo, file) = name.split_at(second);
            let file = file.trim_start_matches('/');
            (repo, Some(file_choice(file)?))
        }
        None => (name, None),
    };
    names::repository(repo)?;
    if let Some(revision) = revision {
        names::revision(revision)?;
    }
    Ok(Location::Hub {
        repo: repo.to_owned(),
        revision: revision.map(str::to_owned),
        file,
    })
}

fn file_choice(text: &str) -> Result<FileChoice, WeightsError> {
    if is_model_file(text) {
        names::file_path(text)?;
        return Ok(FileChoice::File(text.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(FileChoice::Quant(text.to_owned()));
    }
    Err(WeightsError::BadName {
        what: "file",
        value: text.escape_debug().take(200).collect(),
        wanted: "behind the colon goes the name of a .gguf or .safetensors file of the repository, or a quantisation such as Q4_K_M",
    })
}

/// A one-file model's name: the file's, without its folder, its ending and `-00001-of-00003`.
fn file_name(path: &str) -> String {
    let stem = Path::new(path)
        .file_stem()
        .map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    without_part(&stem).to_owned()
}

/// A name without `-00001-of-00003`.
pub(super) fn without_part(stem: &str) -> &str {
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once("-of-") {
        Some((rest, count)) if digits(count) => match rest.rsplit_once('-') {
            Some((base, number)) if digits(number) => base,
            _ => stem,
        },
        _ => stem,
    }
}

/// A directory's own name, or `model` where it has none (`.`, `/`).
fn directory_name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    full.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests;
