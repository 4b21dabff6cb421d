//! Which layers `target_modules` and its companions mean: names, patterns in Python's spelling, and layer numbers.
//! Mirrors `peft` tuners/tuners_utils.py (check_target_module_exists) and utils/other.py (get_pattern_key).

use fancy_regex::Regex;
use serde::Deserialize;

/// Shorthand for every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";

/// The fields as written.
#[derive(Deserialize)]
pub(super) struct TargetsRaw {
    target_modules: Option<Several<String>>,
    exclude_modules: Option<Several<String>>,
    layers_to_transform: Option<Several<usize>>,
    layers_pattern: Option<Several<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Several<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Several<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A regular expression in Python's syntax, as `re` applies it.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// One that a whole path must match.
    fn whole(pattern: &str) -> Result<Self, String> {
        Self::new(&format!(r"\A(?:{pattern})\z"), pattern)
    }

    /// One that a path, or its end after a dot, must match.
    pub(super) fn ending(pattern: &str) -> Result<Self, String> {
        Self::new(&format!(r"\A(.*\.)?({pattern})\z"), pattern)
    }

    fn new(regex: &str, written: &str) -> Result<Self, String> {
        Regex::new(regex)
            .map(Self)
            .map_err(|error| format!("{written:?} is not a pattern: {error}"))
    }

    /// # Errors
    /// Says that the pattern took too many steps.
    pub(super) fn matches(&self, name: &str) -> Result<bool, String> {
        self.0
            .is_match(name)
            .map_err(|error| format!("{}: {error}", self.0.as_str()))
    }

    /// The number that the pattern's only group of digits has found.
    fn number(&self, name: &str) -> Result<Option<usize>, String> {
        let found = self
            .0
            .captures(name)
            .map_err(|error| format!("{}: {error}", self.0.as_str()))?;
        let digits =
            found.and_then(|found| found.name("index").map(|digits| digits.as_str().parse()));
        Ok(digits.and_then(Result::ok))
    }
}

/// Names or a pattern.
#[derive(Debug)]
enum Names {
    AllLinear,
    Pattern(Pattern),
    List(Vec<String>),
}

impl Names {
    fn new(field: &str, written: Several<String>) -> Result<Self, String> {
        match written {
            Several::One(one) if one.eq_ignore_ascii_case(ALL_LINEAR) => Ok(Self::AllLinear),
            Several::One(one) => Pattern::whole(&one)
                .map(Self::Pattern)
                .map_err(|error| format!("{field}: {error}")),
            Several::Many(many) => Ok(Self::List(many)),
        }
    }

    fn have(&self, name: &str, head: bool) -> Result<bool, String> {
        match self {
            Self::AllLinear => Ok(!head),
            Self::Pattern(pattern) => pattern.matches(name),
            Self::List(names) => Ok(names.iter().any(|listed| {
                name.strip_suffix(listed.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })),
        }
    }
}

/// Which layers an adapter is for.
#[derive(Debug)]
pub(super) struct Targets {
    names: Names,
    excluded: Option<Names>,
    /// Only layers with these numbers, where `names` is a list; none means all.
    layers: Vec<usize>,
    /// What comes before a layer's number.
    before_number: Vec<Pattern>,
}

impl Targets {
    pub(super) fn new(raw: TargetsRaw) -> Result<Self, String> {
        let names = raw.target_modules.ok_or_else(|| {
            "target_modules: it is missing; names of layers, a pattern or \"all-linear\" are wanted".to_owned()
        })?;
        let before = raw
            .layers_pattern
            .map(Several::into_vec)
            .unwrap_or_default();
        let before_number = before
            .iter()
            .filter(|pattern| !pattern.is_empty())
            .map(|pattern| {
                let regex = format!(r"\A(?:|.*?\.)(?:{pattern})\.(?<index>\d+)\.");
                Pattern::new(&regex, pattern).map_err(|error| format!("layers_pattern: {error}"))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self {
            names: Names::new("target_modules", names)?,
            excluded: raw
                .exclude_modules
                .map(|names| Names::new("exclude_modules", names))
                .transpose()?,
            layers: raw
                .layers_to_transform
                .map(Several::into_vec)
                .unwrap_or_default(),
            before_number,
        })
    }

    /// Whether a layer of this path is meant.
    pub(super) fn name(&self, name: &str, head: bool) -> Result<bool, String> {
        if let Some(excluded) = &self.excluded
            && excluded.have(name, head)?
        {
            return Ok(false);
        }
        if !self.names.have(name, head)? {
            return Ok(false);
        }
        // peft asks for numbers only where the targets are a list.
        if self.layers.is_empty() || !matches!(self.names, Names::List(_)) {
            return Ok(true);
        }
        let number = self.number(name)?;
        Ok(number.is_some_and(|number| self.layers.contains(&number)))
    }

    /// The layer's number in a path such as `model.layers.0.self_attn.q_proj`: the first, since experts have some, too.
    fn number(&self, name: &str) -> Result<Option<usize>, String> {
        if self.before_number.is_empty() {
            let parts: Vec<&str> = name.split('.').collect();
            let inner = parts.split_last().map_or(&[][..], |(_, inner)| inner);
            return Ok(inner.iter().skip(2).find_map(|part| part.parse().ok()));
        }
        for pattern in &self.before_number {
            if let Some(number) = pattern.number(name)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}
