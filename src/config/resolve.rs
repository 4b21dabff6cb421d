//! Looks every setting up in its places, in the order of precedence. The places are handed in, so that a test can be
//! any machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::platform::Platform;
use super::setting::{Found, Source, Spec};
use super::settings::{SPECS, Settings};
use super::value::Value;
use super::{ConfigError, home};
use crate::catalog::{Card, Catalog};
use crate::nearest::did_you_mean;

/// What the command line and the environment say.
#[derive(Clone, Default)] // Why no Debug: the environment holds secrets.
pub struct Given {
    /// Flags that were typed, by setting.
    pub flags: BTreeMap<&'static str, String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The settings file (`--config`).
    pub file: Option<PathBuf>,
}

#[cfg(test)]
impl Given {
    /// An environment and nothing else, for tests.
    pub fn in_environment(environment: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            environment: environment.iter().map(owned).collect(),
            ..Self::default()
        }
    }
}

/// The variable that names the settings file.
pub const CONFIG_VARIABLE: &str = "CHANDLER_CONFIG";

/// Marks a worker that `chandler provision` made: the deployment's name.
pub const DEPLOYMENT_VARIABLE: &str = "CHANDLER_DEPLOYMENT";
/// The same for whose it is.
pub const OWNER_VARIABLE: &str = "CHANDLER_OWNER";
/// Ours, and no settings of a worker: marks, and what other commands read.
const NO_SETTINGS: [&str; 6] = [
    CONFIG_VARIABLE,
    DEPLOYMENT_VARIABLE,
    OWNER_VARIABLE,
    "CHANDLER_IMAGE",
    "CHANDLER_RECORDS",
    "CHANDLER_PROVISION_PACE",
];

/// What came of it.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The settings.
    pub settings: Settings,
    /// The built-in model cards and the user's.
    pub catalog: Catalog,
    /// The card of the model to be loaded, where it has one.
    pub card: Option<Card>,
    /// Where the process runs.
    pub platform: Platform,
    /// What a person should know: synonyms that contradict each other, variables that are nobody's.
    pub warnings: Vec<String>,
}

/// Resolves all settings.
///
/// # Errors
/// [`ConfigError`], which names the flag, variable or key at fault.
pub fn resolve(given: &Given) -> Result<Resolution, ConfigError> {
    let file = match given
        .file
        .clone()
        .or_else(|| variable(given, CONFIG_VARIABLE).map(PathBuf::from))
    {
        Some(path) => Some(File::read(&path)?),
        None => None,
    };
    let platform = Platform::of(&given.environment);
    let mut warnings = unknown_variables(&given.environment);
    warnings.extend(super::foreign::warning(&given.environment));
    let early = |key: &str| -> Result<String, ConfigError> {
        let spec = SPECS
            .iter()
            .find(|spec| spec.key == key)
            .ok_or(ConfigError::Table)?;
        let found = find(spec, given, file.as_ref(), &mut Vec::new())
            .or_else(|| from_platform(spec, given, platform));
        Ok(found.map_or_else(|| spec.default.to_owned(), |found| found.text))
    };
    let catalog = match Option::<PathBuf>::parse(&early("models_file")?) {
        Ok(Some(path)) => Catalog::with_file(&path)?,
        _ => Catalog::built_in()?,
    };
    let model = early("model")?;
    let card = catalog.get(&model).cloned();
    if let Some(card) = &card {
        check_keys(card.settings.keys(), &format!("the model card {}", card.id))?;
    }

    let mut settings = Settings::build(|spec| {
        Ok(find(spec, given, file.as_ref(), &mut warnings)
            .or_else(|| card.as_ref().and_then(|card| from_card(spec, card)))
            .or_else(|| from_platform(spec, given, platform))
            .unwrap_or_else(|| Found {
                text: spec.default.to_owned(),
                source: Source::Default,
            }))
    })?;
    let around = home::Surroundings::new(&given.environment);
    home::find_cache(&mut settings, &around);
    home::find_hub_cache(&mut settings, &around);
    warnings.extend(home::find_hub_token(&mut settings, &around));
    read_keys(&mut settings)?;
    Ok(Resolution {
        settings,
        catalog,
        card,
        platform,
        warnings,
    })
}

/// A flag, a variable or a key of the file, whichever comes first. An empty text counts as nothing said.
fn find(
    spec: &'static Spec,
    given: &Given,
    file: Option<&File>,
    warnings: &mut Vec<String>,
) -> Option<Found> {
    let flag = given.flags.get(spec.key).filter(|text| !text.is_empty());
    if let (Some(text), Some(name)) = (flag, spec.flag) {
        return Some(Found {
            text: text.clone(),
            source: Source::Flag(name),
        });
    }
    let mut set = spec.variables.iter().filter_map(|candidate| {
        if let Some(other) = candidate.only_with {
            variable(given, other)?;
        }
        Some((candidate.name, variable(given, candidate.name)?))
    });
    if let Some((name, text)) = set.next() {
        for (other, value) in set {
            if value != text {
                warnings.push(format!(
                    "{name} and {other} are set to different values; {name} wins"
                ));
            }
        }
        return Some(Found {
            text: text.to_owned(),
            source: Source::Environment(name),
        });
    }
    let file = file?;
    let text = file.values.get(spec.key).filter(|text| !text.is_empty())?;
    Some(Found {
        text: text.clone(),
        source: Source::File(file.name.clone()),
    })
}

fn variable<'a>(given: &'a Given, name: &str) -> Option<&'a str> {
    given
        .environment
        .get(name)
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

fn from_card(spec: &Spec, card: &Card) -> Option<Found> {
    let text = match (card.settings.get(spec.key), &card.revision) {
        (Some(value), _) => text_of(value)?,
        (None, Some(revision)) if spec.key == "revision" => revision.clone(),
        _ => return None,
    };
    Some(Found {
        text,
        source: Source::Catalog(card.id.clone()),
    })
}

fn from_platform(spec: &Spec, given: &Given, platform: Platform) -> Option<Found> {
    let named = platform.variable_of(spec.key);
    if let Some((name, text)) = named.and_then(|name| Some((name, variable(given, name)?))) {
        return Some(Found {
            text: text.to_owned(),
            source: Source::Environment(name),
        });
    }
    Some(Found {
        text: platform.default_of(spec.key)?.to_owned(),
        source: Source::Platform(platform),
    })
}

/// A settings file: keys as in the table, values as a flag would have them or as TOML has them.
struct File {
    name: String,
    values: BTreeMap<String, String>,
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError::File {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| failed(error.to_string()))?;
        let name = path.display().to_string();
        check_keys(table.keys(), &name)?;
        let mut values = BTreeMap::new();
        for (key, value) in &table {
            let text = text_of(value).ok_or_else(|| {
                failed(format!(
                    "{key} must be a text, a number, true, false, or a list of texts"
                ))
            })?;
            values.insert(key.clone(), text);
        }
        Ok(Self { name, values })
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.trim().to_owned()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(texts?.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn check_keys<'a>(keys: impl Iterator<Item = &'a String>, place: &str) -> Result<(), ConfigError> {
    for key in keys {
        if !SPECS.iter().any(|spec| spec.key == key) {
            return Err(ConfigError::UnknownKey {
                place: place.to_owned(),
                key: key.clone(),
                hint: did_you_mean(key, SPECS.iter().map(|spec| spec.key)),
            });
        }
    }
    Ok(())
}

/// A misspelt variable would be ignored in silence; ours are recognised by their prefix.
fn unknown_variables(environment: &BTreeMap<String, String>) -> Vec<String> {
    let known: Vec<&str> = SPECS
        .iter()
        .flat_map(|spec| spec.variables)
        .map(|variable| variable.name)
        .chain(NO_SETTINGS)
        .collect();
    let strangers = environment
        .keys()
        .filter(|name| name.starts_with("CHANDLER_") && !known.contains(&name.as_str()));
    strangers
        .map(|name| {
            let hint = did_you_mean(name, known.iter().copied());
            format!("{name} is not a setting and was ignored{hint}")
        })
        .collect()
}

/// Adds the keys of the key file, and refuses a place for keys that holds none.
fn read_keys(settings: &mut Settings) -> Result<(), ConfigError> {
    if settings.api_keys.source != Source::Default && settings.api_keys.is_empty() {
        return Err(ConfigError::NoKeys {
            place: settings.api_keys.source.to_string(),
        });
    }
    let Some(path) = settings.api_key_file.value.clone() else {
        return Ok(());
    };
    let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::File {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<SecretString> = lines.map(SecretString::from).collect();
    if keys.is_empty() {
        return Err(ConfigError::NoKeys {
            place: path.display().to_string(),
        });
    }
    settings.api_keys.value.extend(keys);
    if settings.api_keys.source == Source::Default {
        settings.api_keys.source = settings.api_key_file.source.clone();
    }
    Ok(())
}
