//! A catalog's file: cards and templates as they are written down, read and checked. Apart from the catalog, which answers
//! questions about them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Card, CatalogError, Hardware, Template};

/// What a file holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogFile {
    #[serde(default, rename = "model")]
    pub models: Vec<Card>,
    #[serde(default, rename = "hardware")]
    pub hardware: Vec<Hardware>,
    #[serde(default, rename = "template")]
    pub templates: Vec<Template>,
}

impl CatalogFile {
    /// Reads a file's text; `place` is what errors call it.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self, CatalogError> {
        let malformed = |reason: String| CatalogError::Malformed {
            place: place.to_owned(),
            reason,
        };
        let file: Self = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let templates = || file.templates.iter().map(|template| template.id.as_str());
        once(place, file.models.iter().flat_map(Card::names))?;
        once(place, file.hardware.iter().flat_map(own_names))?;
        once(place, templates())?;
        let of = |id: &str, what: String| malformed(format!("{id}: {what}"));
        for card in &file.hardware {
            card.check().map_err(|what| of(&card.id, what))?;
        }
        for template in &file.templates {
            template.check().map_err(|what| of(&template.id, what))?;
        }
        Ok(file)
    }

    /// Puts `user`'s on top: what has the same id replaces ours, and a name that both use is theirs.
    pub(super) fn under(self, user: Self) -> Self {
        Self {
            models: under(self.models, user.models, |card| &card.id),
            hardware: under(self.hardware, user.hardware, |card| &card.id),
            templates: under(self.templates, user.templates, |template| &template.id),
        }
    }
}

/// The names that are ours to give: platforms' names may be those of two cards.
fn own_names(card: &Hardware) -> impl Iterator<Item = &str> {
    std::iter::once(card.id.as_str()).chain(card.aliases.iter().map(String::as_str))
}

fn once<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), CatalogError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_lowercase()) {
            return Err(CatalogError::Duplicate {
                place: place.to_owned(),
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

fn under<T>(ours: Vec<T>, theirs: Vec<T>, id: fn(&T) -> &String) -> Vec<T> {
    let replaced = |one: &T| {
        theirs
            .iter()
            .any(|other| id(other).eq_ignore_ascii_case(id(one)))
    };
    let kept: Vec<T> = ours.into_iter().filter(|one| !replaced(one)).collect();
    theirs.into_iter().chain(kept).collect()
}
