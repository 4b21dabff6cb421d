//! The languages that have been asked for: their layers are read once and kept while there is room. Off the engine's thread, since a
//! language's file is some megabytes.

use std::sync::{Arc, Mutex, PoisonError};

use chandler_core::RequestError;
use chandler_nn::weights::Snapshot;

use crate::ctc::{Adapter, CtcConfig, Vocabularies, Vocabulary};
use crate::layers::Placement;

/// Languages that are kept: a billion-weight model's takes 9 MB.
const MOST_KEPT: usize = 16;

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

impl Adapters {
    /// The language that a request names, or the model's own.
    ///
    /// # Errors
    /// Names the languages when it is none of them, and says when its file is not in the snapshot.
    pub(super) fn language(&self, asked: Option<&str>) -> Result<Language, RequestError> {
        let own = self.vocabularies.default_language();
        let choice = asked.filter(|_| self.vocabularies.is_multilingual());
        let code = choice.unwrap_or(own);
        let Some(vocabulary) = self.vocabularies.of(code) else {
            let all: Vec<&str> = self.vocabularies.languages().take(200).collect();
            let message = format!(
                "language is {code:?}; it must be a language of the model: {}",
                all.join(", ")
            );
            return Err(RequestError::field("language", message));
        };
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
