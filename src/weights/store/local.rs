//! What the cache has of what is wanted, without any network.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use super::super::WeightsError;
use super::super::cache::{Candidate, Found, Lookup};
use super::super::choose::{Choice, Listed, Rule};
use super::super::{Kind, names};
use super::{Fetched, Origin, Query, Store};

/// An index of shards is the largest file that a choice reads: some 5 MB for the largest models there are.
const MOST_BYTES: u64 = 64 << 20;
/// What every model has besides its weights that was fetched by people who knew what they did. A cache that nobody wrote a
/// list for may hold only a part, such as what a script has looked at.
const TOKENIZERS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
];

impl Store {
    /// The snapshot, if it is in the cache and whole.
    pub(super) fn here(&self, query: &Query<'_>) -> Result<Option<Fetched>, WeightsError> {
        let revision = query.place.revision.clone();
        self.here_at(query, &revision)
    }

    /// As [`Store::here`], of a revision or commit that is said.
    pub(super) fn here_at(
        &self,
        query: &Query<'_>,
        revision: &str,
    ) -> Result<Option<Fetched>, WeightsError> {
        let rule = LocalRule::new(&query.rule, self.options.offline);
        let found = query
            .cache
            .find(&query.place.folder, revision, &|candidate| {
                rule.wants(candidate)
            })?;
        let Some(found) = found else {
            return Ok(None);
        };
        let in_use = query.cache.hold(&found)?;
        let choice = rule.chosen.take();
        Ok(Some(fetched(found, &choice, Arc::new(in_use))))
    }

    /// What to say of a model that is not here when nobody may be asked for it.
    pub(super) fn why_not_here(&self, query: &Query<'_>) -> Result<WeightsError, WeightsError> {
        let rule = LocalRule::new(&query.rule, true);
        let wants = |candidate: &Candidate<'_>| rule.wants(candidate);
        let place = &query.place;
        let looked = query.cache.look(&place.folder, &place.revision, &wants)?;
        let name = query.wanted.location.to_string();
        Ok(WeightsError::Offline(match looked {
            Lookup::Incomplete { commit, missing } if !missing.is_empty() => format!(
                "{name} (of its commit {commit} these files are missing: {})",
                missing.join(", ")
            ),
            _ => name,
        }))
    }
}

/// What was found, as whoever asked for it sees it.
pub(super) fn fetched(found: Found, choice: &Choice, in_use: Arc<super::InUse>) -> Fetched {
    Fetched {
        file: choice.file.as_ref().map(|file| found.dir.join(file)),
        dir: found.dir,
        commit: found.commit,
        files: found.files,
        origin: Origin::Cache,
        mirror: None,
        _in_use: in_use,
    }
}

/// The rule as the cache asks it, which remembers what was chosen.
struct LocalRule<'a> {
    rule: &'a Rule,
    /// Whether what there is must do, because nobody can be asked what there should be.
    lenient: bool,
    chosen: RefCell<Choice>,
}

impl<'a> LocalRule<'a> {
    fn new(rule: &'a Rule, lenient: bool) -> Self {
        Self {
            rule,
            lenient,
            chosen: RefCell::default(),
        }
    }

    fn wants(&self, candidate: &Candidate<'_>) -> Option<Vec<String>> {
        let files = candidate.files.iter().map(|file| Listed {
            path: &file.path,
            size: file.size,
        });
        let files: Vec<Listed<'_>> = files.collect();
        let read = |path: &str| small_file(candidate.dir, path);
        let choice = self.rule.choose(&files, &read).ok()?;
        let doubtful = !candidate.listed && candidate.recorded.is_none() && !self.lenient;
        if doubtful && self.rule.kind() == Kind::Model && !looks_whole(&choice) {
            return None;
        }
        let mut wanted = choice.files.clone();
        if let (false, Some(recorded)) = (candidate.listed, candidate.recorded) {
            wanted.extend(recorded.iter().cloned());
        }
        self.chosen.replace(choice);
        Some(wanted)
    }
}

fn looks_whole(choice: &Choice) -> bool {
    let has = |name: &str| choice.files.iter().any(|file| file == name);
    choice.file.is_some()
        || has("model_index.json")
        || (has("config.json") && TOKENIZERS.iter().any(|name| has(name)))
}

/// A small file of a snapshot.
pub(super) fn small_file(dir: &Path, path: &str) -> Option<Vec<u8>> {
    names::file_path(path).ok()?;
    let path = dir.join(path);
    let small = std::fs::metadata(&path).ok()?.len() <= MOST_BYTES;
    small.then(|| std::fs::read(&path).ok()).flatten()
}
