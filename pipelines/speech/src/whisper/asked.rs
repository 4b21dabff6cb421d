//! What a request says about language and task, held against what the model can do: which tokens that makes, or an error that names
//! the field. Apart from the prompt, which is given tokens and asks no questions.

use chandler_core::RequestError;

use super::generation::Generation;
use super::languages;
use super::tokens::{Language, Task};

/// What is to be made of speech in which language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The language.
    pub language: LanguageChoice,
    /// The task; none for a model that has one.
    pub task: Option<Task>,
}

/// The language of speech.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanguageChoice {
    /// It is known.
    Known(Language),
    /// The model is to be asked ([`Job::Detect`](super::decoding::Job::Detect)).
    Detect,
    /// The model has one, and no token for it: English.
    Only,
}

impl Asked {
    /// From a request's fields. What it leaves out is the checkpoint's own default, where it has one; else the language is detected and
    /// speech is transcribed.
    ///
    /// # Errors
    /// Names `language` when it is none, or none of the model's; `task` when the model cannot translate.
    pub fn new(
        language: Option<&str>,
        task: Option<Task>,
        generation: &Generation,
    ) -> Result<Self, RequestError> {
        if !generation.multilingual {
            return Self::of_english(language, task);
        }
        let tokens = &generation.tokens;
        let task = task.or(generation.default_task).unwrap_or_default();
        if tokens.task(task).is_none() {
            let message = "this model does not translate; use task transcribe";
            return Err(RequestError::unsupported("task", message));
        }
        let known = |id: u32| tokens.languages.iter().find(|language| language.id == id);
        let language = match language {
            Some(written) => Some(find(written, generation)?),
            None => generation.default_language.and_then(known).cloned(),
        };
        Ok(Self {
            language: language.map_or(LanguageChoice::Detect, LanguageChoice::Known),
            task: Some(task),
        })
    }

    fn of_english(language: Option<&str>, task: Option<Task>) -> Result<Self, RequestError> {
        if let Some(written) = language
            && languages::code_of(written) != Some("en")
        {
            let message = format!("language is {written:?}; this model knows English alone");
            return Err(RequestError::unsupported("language", message));
        }
        if task == Some(Task::Translate) {
            let message = "this model knows English alone and does not translate";
            return Err(RequestError::unsupported("task", message));
        }
        Ok(Self {
            language: LanguageChoice::Only,
            task: None,
        })
    }
}

/// A language by its code or name, by the code of a fine-tune, or as its token is written.
fn find(written: &str, generation: &Generation) -> Result<Language, RequestError> {
    let bare = written.trim().trim_matches(['<', '|', '>']);
    let code = languages::code_of(bare).unwrap_or(bare);
    let all = &generation.tokens.languages;
    let found = all.iter().find(|language| language.code == code);
    found.cloned().ok_or_else(|| {
        let codes: Vec<&str> = all.iter().map(|language| language.code.as_str()).collect();
        let message = format!(
            "language is {written:?}; it must be a language of the model, by code or English name: {}",
            codes.join(", ")
        );
        RequestError::field("language", message)
    })
}
