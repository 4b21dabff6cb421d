//! Why there are no weights: one enum for every source, so that each failure is told in words that a user can act on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no snapshot. No message holds a token, a key or a signed address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// Nothing by that name is here.
    #[error(
        "model `{0}`: there is no such directory; give a directory in the Hugging Face layout (config.json, tokenizer.json, \
         *.safetensors), a .gguf file, a diffusion checkpoint in one .safetensors file, a repository on the hub (org/name, \
         or hf://org/name where a directory org is in the way), \
         s3://bucket/prefix, gs://bucket/prefix, `demo` or `mock`"
    )]
    NotHere(String),
    /// A model's file by a name that is no path here.
    #[error(
        "model `{0}`: there is no such file; a file in a repository of the Hugging Face hub is org/name:file.gguf, or of a GGUF \
         org/name:Q4_K_M for the one of that quantisation"
    )]
    NoSuchFile(String),
    /// Nobody has said where fetched files may be kept.
    #[error(
        "model `{0}` is to be fetched, and no home directory is known to keep it in: name a place with --hub-cache or HF_HOME"
    )]
    NoCache(String),
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
    /// A name that could lead anywhere.
    #[error("{what} `{value}`: {wanted}")]
    BadName {
        /// What it should have named.
        what: &'static str,
        /// As it was given, cut and escaped.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
    /// The source does not have it, or hides it from this user.
    #[error("{place}: {what}; {wanted}")]
    NotFound {
        /// The source.
        place: String,
        /// What is not there: the repository, the revision, a file.
        what: String,
        /// What would do.
        wanted: String,
    },
    /// The source wants another token, other keys, or a licence accepted.
    #[error("{place}: {what}; {wanted}")]
    Denied {
        /// The source.
        place: String,
        /// What it said.
        what: String,
        /// What would do.
        wanted: String,
    },
    /// The source asks for patience, and was asked often enough.
    #[error("{place} has limited the rate of requests{}; try again later, or give a token", after(*.wait))]
    RateLimited {
        /// The source.
        place: String,
        /// How long, where it says.
        wait: Option<Duration>,
    },
    /// The source answers with errors or not at all, and was asked often enough.
    #[error("{place} cannot be reached: {reason}")]
    Unreachable {
        /// The source.
        place: String,
        /// The last thing that went wrong.
        reason: String,
    },
    /// It would take the network, which is not to be used.
    #[error(
        "{0} is not in the cache, and HF_HUB_OFFLINE is set: unset it, or fill the cache with `chandler pull`"
    )]
    Offline(String),
    /// The source's answer makes no sense.
    #[error("{place}: {reason}")]
    Malformed {
        /// The source.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not those that the source promised, however often they were fetched.
    #[error("{place}: {file} arrived damaged {times} times: {reason}")]
    Corrupt {
        /// The source.
        place: String,
        /// The file's path.
        file: String,
        /// How often it was fetched.
        times: u32,
        /// What was expected and what came.
        reason: String,
    },
    /// The file changed at the source while it was fetched, more than once.
    #[error("{place}: {file} changes while it is being fetched: try again when nobody writes it")]
    Changed {
        /// The source.
        place: String,
        /// The file's path.
        file: String,
    },
    /// The disk does not take it.
    #[error("{}: {source}{}", path.display(), hint(source))]
    Disk {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The cache is not as it should be, or somebody is at it.
    #[error("{}: {reason}", path.display())]
    Cache {
        /// Which file or directory.
        path: PathBuf,
        /// What is wrong, and what would do.
        reason: String,
    },
    /// None of the source's files is a model that can be loaded.
    #[error("{place}: {reason}")]
    NoModel {
        /// The source.
        place: String,
        /// What is missing, and what is there.
        reason: String,
    },
    /// Somebody asked for the end.
    #[error("stopped before the model was fetched; what has come is kept for the next start")]
    Stopped,
}

impl WeightsError {
    /// Whether the source could not be asked: what is here already may serve instead, and later it may go well.
    pub fn is_of_the_network(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::RateLimited { .. })
    }

    /// Adds names that are near to an error that says there is no such model.
    pub(super) fn with_hint(mut self, hint: &str) -> Self {
        if let Self::NotFound { wanted, .. } | Self::Denied { wanted, .. } = &mut self {
            wanted.push_str(hint);
        }
        self
    }

    /// A failure of the disk's.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { path, source }
    }
}

fn after(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!(" for another {} s", wait.as_secs())
    })
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room (`chandler cache prune`), or name another place with HF_HOME or --hub-cache; what has come is kept"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            ": name a place that can be written with HF_HOME or --hub-cache"
        }
        _ => "",
    }
}
