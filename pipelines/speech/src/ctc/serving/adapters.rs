//! The languages that have been asked for: their layers are read once and kept while there is room. Off the engine's thread, since a
//! language's file is some megabytes.

use std::sync::{Arc, Mutex, PoisonError};

use chandler_core::RequestError;
use chandler_nn::weights::Snapshot;

use crate::ctc::{Adapter, CtcConfig, Vocabularies, Vocabulary};
use crate::layers::Placement;

/// Languages that are kept: a billion-weight model's takes 9 MB.
const MOST_KEPT: usize = 16;

/// Languages that an error lists.
const LISTED: usize = 200;

/// A model's languages.
pub(super) struct Adapters {
    pub(super) own: Arc<Adapter>,
    pub(super) vocabularies: Vocabularies,
    pub(super) snapshot: Snapshot,
    pub(super) config: Arc<CtcConfig>,
    pub(super) placement: Placement,
    /// The last used at the end.
    pub(super) kept: Mutex<Vec<(String, Arc<Adapter>)>>,
}

/// A language as a request needs it.
pub(super) struct Language {
    /// Empty where the model has one language and nobody named it.
    pub(super) code: String,
    pub(super) adapter: Arc<Adapter>,
    pub(super) vocabulary: Vocabulary,
}

/// The languages that can be heard: the model's own, and those whose adapter is in the snapshot or on its way.
pub(super) fn here(vocabularies: &Vocabularies, snapshot: &Snapshot) -> Vec<String> {
    let languages = vocabularies.languages();
    let here = languages.filter(|code| is_here(code, vocabularies, snapshot));
    here.map(str::to_owned).collect()
}

fn is_here(code: &str, vocabularies: &Vocabularies, snapshot: &Snapshot) -> bool {
    code == vocabularies.default_language() || snapshot.holds(&Adapter::file(code))
}

impl Adapters {
    /// The language that a request names, or the model's own.
    ///
    /// # Errors
    /// Names the languages that are here when it is none of them.
    pub(super) fn language(&self, asked: Option<&str>) -> Result<Language, RequestError> {
        let own = self.vocabularies.default_language();
        let choice = asked.filter(|_| self.vocabularies.is_multilingual());
        let code = choice.unwrap_or(own);
        let vocabulary = self.vocabularies.of(code);
        let vocabulary = vocabulary.ok_or_else(|| {
            let message = format!(
                "language is {code:?}; it must be a language of the model: {}",
                self.listed()
            );
            RequestError::field("language", message)
        })?;
        if !is_here(code, &self.vocabularies, &self.snapshot) {
            let message = format!(
                "language is {code:?}, which the model knows, but its {} is not here; it must be one of {}, or the worker be \
                 started with --speech-languages {code} (beside a model in a directory, the file put into it)",
                Adapter::file(code),
                self.listed()
            );
            return Err(RequestError::unsupported("language", message));
        }
        Ok(Language {
            // A model of one language is told what it is called, and believes it.
            code: asked.unwrap_or(own).to_owned(),
            adapter: match code == own {
                true => Arc::clone(&self.own),
                false => self.of(code)?,
            },
            vocabulary: vocabulary.clone(),
        })
    }

    /// The languages that are here, as an error lists them.
    fn listed(&self) -> String {
        let all = here(&self.vocabularies, &self.snapshot);
        let more = if all.len() > LISTED { ", …" } else { "" };
        let some: Vec<&str> = all.iter().take(LISTED).map(String::as_str).collect();
        some.join(", ") + more
    }

    fn of(&self, code: &str) -> Result<Arc<Adapter>, RequestError> {
        // A panic while the lock is held leaves the list whole, so a poisoned lock is used as it is.
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if let Some(at) = kept.iter().position(|(known, _)| known == code) {
                let found = kept.remove(at);
                let adapter = Arc::clone(&found.1);
                kept.push(found);
                return Ok(adapter);
            }
        }
        let adapter = Adapter::of_language(code, &self.snapshot, &self.config, &self.placement);
        let adapter = adapter.map(Arc::new).map_err(|error| {
            let message = format!("language is {code:?}, whose adapter cannot be read: {error}");
            RequestError::unsupported("language", message)
        })?;
        let mut kept = lock();
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        kept.push((code.to_owned(), Arc::clone(&adapter)));
        Ok(adapter)
    }
}
