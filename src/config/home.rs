//! What follows from where the user's home is when nobody says more: our cache, the cache that all of Hugging Face's tools
//! share, and the token that they have written down. Apart from `resolve`, which knows no setting by name but these.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::setting::Source;
use super::settings::Settings;

/// What the environment says.
pub(super) struct Surroundings<'a> {
    environment: &'a BTreeMap<String, String>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(environment: &'a BTreeMap<String, String>) -> Self {
        Self { environment }
    }

    /// A variable that says something.
    fn said(&self, name: &str) -> Option<&'a str> {
        let text = self.environment.get(name)?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// The volume that RunPod's images know as BASE_PATH. Elsewhere that may be anything, a web server's prefix for one.
    fn volume(&self, below: &'static str) -> Option<(&'static str, &'static str)> {
        let on_runpod = self
            .environment
            .keys()
            .any(|name| name.starts_with("RUNPOD_"));
        on_runpod.then_some(("BASE_PATH", below))
    }

    /// The first of the variables that is set to a whole path, with what goes below it. The XDG specification has relative
    /// ones ignored.
    fn first(
        &self,
        mut candidates: impl Iterator<Item = (&'static str, &'static str)>,
    ) -> Option<(&'static str, PathBuf)> {
        candidates.find_map(|(name, below)| {
            let base = Path::new(self.said(name)?);
            base.is_absolute().then(|| (name, base.join(below)))
        })
    }

    /// As the hub's own tools read these variables: `~` is the home.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), self.said("HOME")) {
            (Some(rest), Some(home)) => Path::new(home).join(rest),
            _ => PathBuf::from(text),
        }
    }

    /// Where Hugging Face's tools keep what is theirs, and the variable that says so; on RunPod the volume comes before the
    /// home of a container that nobody will see again.
    fn hub_home(&self) -> Option<(&'static str, PathBuf)> {
        if let Some(home) = self.said("HF_HOME") {
            return Some(("HF_HOME", self.path(home)));
        }
        let user = [
            ("XDG_CACHE_HOME", "huggingface"),
            ("HOME", ".cache/huggingface"),
        ];
        self.first(self.volume("huggingface-cache").into_iter().chain(user))
    }
}

/// The cache directory, when nobody names one: on RunPod below the volume that its workers' images know as BASE_PATH, else
/// the user's, as the XDG base directory specification has it.
pub(super) fn find_cache(settings: &mut Settings, around: &Surroundings<'_>) {
    if settings.cache_dir.value.is_some() || settings.cache_dir.source != Source::Default {
        return;
    }
    let user = [("XDG_CACHE_HOME", "chandler"), ("HOME", ".cache/chandler")];
    let candidates = around.volume("chandler").into_iter().chain(user);
    if let Some((name, directory)) = around.first(candidates) {
        settings.cache_dir.value = Some(directory);
        settings.cache_dir.source = Source::Environment(name);
    }
}

/// The hub's cache, as huggingface_hub finds it.
pub(super) fn find_hub_cache(settings: &mut Settings, around: &Surroundings<'_>) {
    if settings.hub_cache.value.is_some() || settings.hub_cache.source != Source::Default {
        return;
    }
    if let Some((name, home)) = around.hub_home() {
        settings.hub_cache.value = Some(home.join("hub"));
        settings.hub_cache.source = Source::Environment(name);
    }
}

/// The token that `hf auth login` has written down, unless somebody gave one or forbids it. A file that is there and cannot
/// be read is worth a warning, and no more: the model may be public.
pub(super) fn find_hub_token(settings: &mut Settings, around: &Surroundings<'_>) -> Option<String> {
    let forbidden = around
        .said("HF_HUB_DISABLE_IMPLICIT_TOKEN")
        .is_some_and(is_true);
    if settings.hf_token.value.is_some() || settings.hf_token.source != Source::Default || forbidden
    {
        return None;
    }
    let (name, path) = match around.said("HF_TOKEN_PATH") {
        Some(path) => ("HF_TOKEN_PATH", around.path(path)),
        None => around
            .hub_home()
            .map(|(name, home)| (name, home.join("token")))?,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let token = text.trim();
            if !token.is_empty() {
                settings.hf_token.value = Some(SecretString::from(token));
                settings.hf_token.source = Source::Environment(name);
            }
            None
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != "HF_TOKEN_PATH" => {
            None
        }
        Err(error) => Some(format!(
            "the token of the Hugging Face hub in {} cannot be read and is not used: {error}",
            path.display()
        )),
    }
}

/// As huggingface_hub reads a switch.
fn is_true(text: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}
