//! Flags made from the table of settings, so that a setting is written down once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{ConfigError, Given, Group, Resolution, SPECS, Spec, resolve};

/// Which settings a command takes as flags.
pub trait Scope {
    /// Whether it takes this one.
    fn takes(spec: &Spec) -> bool;
}

/// All: for a command that listens.
#[derive(Debug, Clone, Default)]
pub struct Everything;
/// Those of a command that loads a model and answers by itself.
#[derive(Debug, Clone, Default)]
pub struct ModelOnly;
/// Those of a command that fetches or keeps models and runs none.
#[derive(Debug, Clone, Default)]
pub struct WeightsOnly;
/// Those of a command that looks after the cache.
#[derive(Debug, Clone, Default)]
pub struct CacheOnly;
/// Those of a command that only looks at the model cards.
#[derive(Debug, Clone, Default)]
pub struct CatalogOnly;
/// Those of a command that runs no model and keeps none.
#[derive(Debug, Clone, Default)]
pub struct LogsOnly;
/// Those of a command that asks a worker on the same machine.
#[derive(Debug, Clone, Default)]
pub struct Listening;

/// Those that decide how much a model needs.
#[derive(Debug, Clone, Default)]
pub struct PlanOnly;

impl Scope for PlanOnly {
    fn takes(spec: &Spec) -> bool {
        let of_the_size = ["device", "quantize", "kv_cache", "prefill_chunk"];
        WeightsOnly::takes(spec) || of_the_size.contains(&spec.key)
    }
}

impl Scope for Listening {
    fn takes(spec: &Spec) -> bool {
        matches!(spec.key, "host" | "port")
    }
}

impl Scope for Everything {
    fn takes(_: &Spec) -> bool {
        true
    }
}

impl Scope for ModelOnly {
    fn takes(spec: &Spec) -> bool {
        !matches!(spec.group, Group::Server | Group::Outward | Group::RunPod)
    }
}

impl Scope for WeightsOnly {
    fn takes(spec: &Spec) -> bool {
        let of_the_choice = ["revision", "dtype", "models_file"].contains(&spec.key);
        of_the_choice || matches!(spec.group, Group::Weights | Group::Logs) && spec.key != "refresh"
    }
}

impl Scope for CacheOnly {
    fn takes(spec: &Spec) -> bool {
        ["hub_cache", "hub_read_caches", "hub_disable_symlinks"].contains(&spec.key)
    }
}

impl Scope for LogsOnly {
    fn takes(spec: &Spec) -> bool {
        spec.group == Group::Logs
    }
}

impl Scope for CatalogOnly {
    fn takes(spec: &Spec) -> bool {
        spec.key == "models_file"
    }
}

/// The settings that were typed as flags.
#[derive(Debug, Clone, Default)]
pub struct SettingFlags<S> {
    typed: BTreeMap<&'static str, String>,
    file: Option<PathBuf>,
    scope: PhantomData<S>,
}

impl<S: Scope> SettingFlags<S> {
    /// Sets a setting as if its flag had been typed; gives back what was typed.
    pub fn set(&mut self, key: &'static str, text: &str) -> Option<String> {
        self.typed.insert(key, text.to_owned())
    }

    /// Adds the environment, the file, the catalog and the defaults.
    ///
    /// # Errors
    /// [`ConfigError`], which names what is at fault.
    pub fn resolve(self) -> Result<Resolution, ConfigError> {
        self.resolve_in(std::env::vars_os())
    }

    fn resolve_in(
        self,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Resolution, ConfigError> {
        let environment = environment
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        resolve(&Given {
            flags: self.typed,
            environment,
            file: self.file,
        })
    }

    fn specs() -> impl Iterator<Item = (&'static Spec, &'static str)> {
        let taken = SPECS.iter().filter(|spec| S::takes(spec));
        taken.filter_map(|spec| Some((spec, spec.flag?)))
    }
}

impl<S: Scope + Default> Args for SettingFlags<S> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("A TOML file of settings, with the keys that `chandler config show` lists")
            .long_help(
                "A TOML file of settings, with the keys that `chandler config show` lists. An unknown key is an error.\n\
                 [env: CHANDLER_CONFIG] [default: none]",
            );
        let with_flags = Self::specs().fold(command.arg(config), |command, (spec, flag)| {
            command.arg(argument(spec, flag))
        });
        let secrets: Vec<String> = SPECS
            .iter()
            .filter(|spec| spec.flag.is_none() && S::takes(spec))
            .map(|spec| {
                format!(
                    "  {}\n          {}\n          {}",
                    spec.key,
                    short_help(spec),
                    sources(spec)
                )
            })
            .collect();
        if secrets.is_empty() {
            return with_flags;
        }
        with_flags.after_long_help(format!(
            "Set by variable or file only:\n{}",
            secrets.join("\n\n")
        ))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

fn argument(spec: &'static Spec, flag: &'static str) -> Arg {
    let argument = Arg::new(spec.key)
        .long(flag)
        .value_name(spec.value_name)
        .action(if spec.repeated {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .help_heading(spec.group.heading())
        .help(short_help(spec))
        .long_help(format!("{}\n{}", short_help(spec), sources(spec)));
    match spec.bare {
        // With a = before its value, so that it takes nothing else for one: `run --allow-cpu "What is a tensor?"`.
        Some(text) => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(text),
        None => argument,
    }
}

fn short_help(spec: &Spec) -> String {
    let lines: Vec<&str> = spec.help.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

fn sources(spec: &Spec) -> String {
    let variables: Vec<String> = spec
        .variables
        .iter()
        .map(|variable| match variable.only_with {
            Some(other) => format!("{} when {other} is set", variable.name),
            None => variable.name.to_owned(),
        })
        .collect();
    let default = if spec.default.is_empty() {
        spec.otherwise
    } else {
        spec.default
    };
    format!("[env: {}] [default: {default}]", variables.join(", "))
}

impl<S: Scope + Default> FromArgMatches for SettingFlags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let wrong =
            |error: clap::parser::MatchesError| clap::Error::raw(ErrorKind::ValueValidation, error);
        self.file = matches
            .try_get_one::<PathBuf>("config")
            .map_err(wrong)?
            .cloned();
        for (spec, _) in Self::specs() {
            if let Some(texts) = matches.try_get_many::<String>(spec.key).map_err(wrong)? {
                let texts: Vec<&str> = texts.map(String::as_str).collect();
                self.typed.insert(spec.key, texts.join(","));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Value;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingFlags<ModelOnly>,
    }

    #[test]
    fn a_permission_needs_no_value_and_takes_none_from_its_neighbour() {
        for (line, expected) in [
            (vec!["chandler"], false),
            (vec!["chandler", "--allow-cpu"], true),
            (vec!["chandler", "--allow-cpu", "--queue", "2"], true),
            (vec!["chandler", "--allow-cpu=off"], false),
        ] {
            let given = Line::try_parse_from(line).unwrap().settings;
            let settings = given.resolve_in(std::iter::empty()).unwrap().settings;
            assert_eq!(settings.allow_cpu.0, expected);
        }
        assert!(Line::try_parse_from(["chandler", "--allow-cpu", "off"]).is_err());
        let variable = [("CHANDLER_ALLOW_CPU".into(), "1".into())];
        let given = Line::try_parse_from(["chandler"]).unwrap().settings;
        let settings = given.resolve_in(variable.into_iter()).unwrap().settings;
        assert!(settings.allow_cpu.0);
    }

    #[test]
    fn a_flag_of_many_values_may_be_given_many_times() {
        let line = [
            "chandler", "--lora", "a=x", "--queue", "2", "--lora", "b=y,c=z",
        ];
        let given = Line::try_parse_from(line).unwrap().settings;
        let settings = given.resolve_in(std::iter::empty()).unwrap().settings;
        assert_eq!(settings.lora.show(), "a=x,b=y,c=z");
        let twice = ["chandler", "--queue", "1", "--queue", "2"];
        assert!(Line::try_parse_from(twice).is_err());
    }
}
