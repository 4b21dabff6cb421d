//! What a setting is besides its value: where it may be given, where it was, and how it is shown. Apart from the table of
//! settings, which is long enough.

use std::fmt;
use std::ops::Deref;

use super::ConfigError;
use super::platform::Platform;
use super::value::Value;

/// A setting's value and where it came from.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where a value came from, highest precedence first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag, as it is typed.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A key of the settings file.
    File(String),
    /// The model card of this id.
    Catalog(String),
    /// Nobody said anything, and this platform needs another value than the rest.
    Platform(Platform),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag --{flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Catalog(card) => write!(f, "catalog card {card}"),
            Self::Platform(platform) => write!(f, "platform {platform}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A variable that gives a setting, perhaps only while another one is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The variable that must be set too.
    pub only_with: Option<&'static str>,
}

pub(super) const fn var(name: &'static str) -> Variable {
    Variable {
        name,
        only_with: None,
    }
}

pub(super) const fn var_with(name: &'static str, other: &'static str) -> Variable {
    Variable {
        name,
        only_with: Some(other),
    }
}

/// Which commands take a setting, and the heading it stands under in their help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What is loaded, and onto what.
    Model,
    /// Where a model's files come from, and where they are kept.
    Weights,
    /// How much runs at once.
    Batch,
    /// The HTTP front door.
    Server,
    /// Jobs of RunPod's kind.
    RunPod,
    /// What the worker reaches and sends by itself.
    Outward,
    /// Log lines.
    Logs,
}

impl Group {
    /// The heading in the help.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Model => "Model",
            Self::Weights => "Weights: hub, object stores, caches",
            Self::Batch => "Batching and memory",
            Self::Server => "HTTP server",
            Self::RunPod => "RunPod jobs",
            Self::Outward => "Downloads for requests, outputs and webhooks",
            Self::Logs => "Logs",
        }
    }
}

/// What there is to know about a setting besides its value.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The key in the settings file.
    pub key: &'static str,
    /// The flag without its dashes; a secret has none, because command lines are seen by every process.
    pub flag: Option<&'static str>,
    /// What stands for the value in the help.
    pub value_name: &'static str,
    /// Variables, the one that wins first.
    pub variables: &'static [Variable],
    /// The default's text; empty where there is none.
    pub default: &'static str,
    /// What happens when nothing is given, where `default` is empty.
    pub otherwise: &'static str,
    /// Whether the flag may be given several times.
    pub repeated: bool,
    /// What the flag means without a value, where it may stand so.
    pub bare: Option<&'static str>,
    /// Help, one line each.
    pub help: &'static [&'static str],
    /// Where it belongs.
    pub group: Group,
}

/// One line of `config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The key in the settings file.
    pub key: &'static str,
    /// The value; secrets masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
    /// What an empty value means.
    pub otherwise: &'static str,
}

/// A value's text on its way to its type.
pub(super) struct Found {
    pub text: String,
    pub source: Source,
}

pub(super) fn read<T: Value>(spec: &'static Spec, found: Found) -> Result<Setting<T>, ConfigError> {
    match T::parse(&found.text) {
        Ok(value) => Ok(Setting {
            value,
            source: found.source,
        }),
        Err(wanted) => Err(ConfigError::Invalid {
            place: match &found.source {
                Source::Flag(flag) => format!("--{flag}"),
                Source::Environment(name) => (*name).to_owned(),
                Source::File(path) => format!("{} in {path}", spec.key),
                Source::Catalog(card) => format!("{} in the model card {card}", spec.key),
                Source::Platform(_) | Source::Default => format!("the default of {}", spec.key),
            },
            value: match T::PRIVATE {
                true => super::value::MASK.to_owned(),
                false => found.text,
            },
            wanted,
        }),
    }
}
