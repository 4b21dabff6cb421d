//! Why there is no plan.

/// Why there is no plan. Nothing is ever guessed in place of what is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A file of the model's is not there, or cannot be read: with the source's own words.
    #[error("{0}")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file is not what its name says.
    #[error("{file}: {reason}")]
    Malformed {
        /// Its path in the model.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A number that the plan needs is not written down.
    #[error("{file} does not say {field}, without which {needs} cannot be reckoned")]
    Missing {
        /// The file.
        file: String,
        /// The field.
        field: String,
        /// What it is needed for.
        needs: &'static str,
    },
    /// Nothing is known of this kind of model.
    #[error("{what} is not known to the plan: {known}")]
    UnknownKind {
        /// What was found.
        what: String,
        /// What is known instead.
        known: &'static str,
    },
    /// The card alone does not say enough.
    #[error("the card of {model} does not say {missing}: {remedy}")]
    Card {
        /// The card.
        model: String,
        /// What it lacks.
        missing: &'static str,
        /// What would do.
        remedy: &'static str,
    },
    /// What was asked for does not go together.
    #[error("{field}: {reason}")]
    Asked {
        /// The field.
        field: &'static str,
        /// Why not, and what would do.
        reason: String,
    },
}

impl PlanError {
    pub(super) fn malformed(file: &str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }
}
