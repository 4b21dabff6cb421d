//! Model cards: what is known about a model before any of its files is read. Data in `models.toml`, compiled in, to
//! which a user's own file adds or which it overrides, card by card.

mod benchmark;
mod card;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use benchmark::{Benchmark, Spread};
pub use card::{Card, Origin, Shape, Tested};

use crate::nearest::{did_you_mean, nearest};

const BUILT_IN: &str = include_str!("../../models.toml");

/// Why a catalog or a look-up in it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("cannot read the model cards in {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The cards do not parse; the reason names the line and the field.
    #[error("the model cards in {place} are not right: {reason}")]
    Malformed {
        /// Which file.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Two cards of one file answer to one name.
    #[error("the model cards in {place} use the name `{name}` twice")]
    Duplicate {
        /// Which file.
        place: String,
        /// The name.
        name: String,
    },
    /// No card has this name.
    #[error("no model card is called `{name}`{hint}; `chandler models` lists all")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nearest names, where any is near.
        hint: String,
    },
}

/// All cards, the user's first.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    cards: Vec<Card>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    #[serde(default, rename = "model")]
    models: Vec<Card>,
}

impl Catalog {
    /// The cards that are compiled in.
    ///
    /// # Errors
    /// When they do not parse, which a test rules out.
    pub fn built_in() -> Result<Self, CatalogError> {
        Self::parse(BUILT_IN, "models.toml")
    }

    /// The compiled-in cards under the ones of a user's file.
    ///
    /// # Errors
    /// [`CatalogError`] with the file, line and field at fault.
    pub fn with_file(path: &Path) -> Result<Self, CatalogError> {
        let text = std::fs::read_to_string(path).map_err(|error| CatalogError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let user = Self::parse(&text, &path.display().to_string())?;
        Ok(Self::built_in()?.under(user))
    }

    fn parse(text: &str, place: &str) -> Result<Self, CatalogError> {
        let file: CatalogFile = toml::from_str(text).map_err(|error| CatalogError::Malformed {
            place: place.to_owned(),
            reason: error.to_string(),
        })?;
        let mut seen = std::collections::BTreeSet::new();
        for name in file.models.iter().flat_map(Card::names) {
            if !seen.insert(name.to_lowercase()) {
                return Err(CatalogError::Duplicate {
                    place: place.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
        Ok(Self { cards: file.models })
    }

    /// Puts `user`'s cards on top: one with the same id replaces ours, and a name that both use is theirs.
    fn under(self, mut user: Self) -> Self {
        let ours = self.cards.into_iter();
        let kept: Vec<Card> = ours
            .filter(|card| {
                !user
                    .cards
                    .iter()
                    .any(|theirs| theirs.id.eq_ignore_ascii_case(&card.id))
            })
            .collect();
        user.cards.extend(kept);
        user
    }

    /// All cards.
    pub fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// The card that answers to a name: an id, an alias or a hub id, in any case.
    pub fn get(&self, name: &str) -> Option<&Card> {
        self.cards.iter().find(|card| card.answers_to(name))
    }

    /// Like [`Catalog::get`], for those who have no use for a model without a card.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Card, CatalogError> {
        self.get(name).ok_or_else(|| CatalogError::Unknown {
            name: name.to_owned(),
            hint: did_you_mean(name, self.names()),
        })
    }

    /// Cards that hold a text in a name, their task, architecture or licence, in any case; all for an empty text.
    pub fn search<'a>(&'a self, text: &str) -> Vec<&'a Card> {
        let wanted = text.to_lowercase();
        self.cards
            .iter()
            .filter(|card| card.mentions(&wanted))
            .collect()
    }

    /// The names nearest to one that is not known.
    pub fn near(&self, name: &str) -> Vec<&str> {
        nearest(name, self.names())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.cards.iter().flat_map(Card::names)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_built_in_cards_parse_and_add_up() {
        let catalog = Catalog::built_in().unwrap();
        assert!(catalog.cards().len() >= 15);
        for card in catalog.cards() {
            card.check()
                .unwrap_or_else(|what| panic!("{}: {what}", card.id));
        }
    }

    #[test]
    fn a_card_is_found_by_id_alias_or_hub_id_in_any_case() {
        let catalog = Catalog::built_in().unwrap();
        let by_id = catalog.find("qwen2.5-0.5b-instruct").unwrap();
        assert_eq!(
            catalog.find("Qwen/Qwen2.5-0.5B-Instruct").unwrap().id,
            by_id.id
        );
        assert_eq!(
            catalog.find("TINYLLAMA").unwrap().id,
            "tinyllama-1.1b-chat-v1.0"
        );
        assert_eq!(
            catalog.find("demo").unwrap().origin(),
            Origin::Within("demo")
        );
        assert_eq!(
            catalog.find("mock").unwrap().origin(),
            Origin::Within("mock")
        );
    }

    #[test]
    fn a_miss_names_what_is_near() {
        let error = Catalog::built_in()
            .unwrap()
            .find("tinylama")
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean tinyllama"), "{error}");
    }

    #[test]
    fn a_users_card_adds_or_overrides() {
        let user = file(
            "[[model]]\nid = \"DEMO\"\ntask = \"text-generation\"\nsource = \"me/demo\"\ntested = \"expected\"\n",
        );
        let catalog = Catalog::with_file(user.path()).unwrap();
        assert_eq!(
            catalog.find("demo").unwrap().origin(),
            Origin::Hub("me/demo")
        );
        assert_eq!(
            catalog.cards().len(),
            Catalog::built_in().unwrap().cards().len()
        );
    }

    #[test]
    fn unknown_fields_and_names_used_twice_are_refused() {
        let card = "[[model]]\nid = \"a\"\ntask = \"text-generation\"\nsource = \"a/a\"\ntested = \"expected\"\n";
        let typo = file(&format!("{card}licens = \"mit\"\n"));
        let error = Catalog::with_file(typo.path()).unwrap_err().to_string();
        assert!(error.contains("licens"), "{error}");
        let twice = file(&format!("{card}{card}"));
        assert!(matches!(
            Catalog::with_file(twice.path()),
            Err(CatalogError::Duplicate { .. })
        ));
    }

    #[test]
    fn search_looks_at_names_tasks_and_architectures() {
        let catalog = Catalog::built_in().unwrap();
        assert!(catalog.search("smollm").len() >= 3);
        assert!(catalog.search("QWEN2FORCAUSALLM").len() >= 5);
        assert_eq!(catalog.search("").len(), catalog.cards().len());
        assert!(catalog.search("no such thing").is_empty());
    }
}
