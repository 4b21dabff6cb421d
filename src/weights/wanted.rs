//! What somebody asks the store for.

use super::Location;

/// A model or an adapter, and where it is.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it is.
    pub location: Location,
    /// Which of its files are needed follows from this.
    pub kind: Kind,
    /// Languages whose adapters a model of many (MMS) is fetched with; `all` is every one.
    pub languages: Vec<String>,
    /// What to add to an error that says there is no such thing: names that are near.
    pub hint: String,
}

/// What the files are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model, with everything that its pipeline reads.
    Model,
    /// An adapter (LoRA): peft's two files, or one file of pairs.
    Adapter,
}

impl Wanted {
    /// A model.
    pub fn model(location: Location) -> Self {
        Self {
            location,
            kind: Kind::Model,
            languages: Vec::new(),
            hint: String::new(),
        }
    }
}
