//! What is known before anything is read or asked: model cards, hardware cards and templates. Data in `models.toml`, compiled
//! in, to which a user's own file adds or which it overrides, card by card; and what follows from it (`plan`).

mod append;
mod benchmark;
mod card;
mod file;
mod hardware;
pub mod plan;
mod template;

use std::path::{Path, PathBuf};

pub use append::{NewTemplate, append};
pub use benchmark::{Benchmark, Spread};
pub use card::{Card, Drawing, Hearing, Origin, Shape, Tested};
pub use hardware::{Architecture, Hardware, Platform, VertexMachine};
pub use template::{CPU, Template};

use file::CatalogFile;

use crate::nearest::{did_you_mean, nearest};

const BUILT_IN: &str = include_str!("../../models.toml");

/// Why a catalog or a look-up in it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The file cannot be read.
    #[error("cannot read the cards in {}: {reason}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The cards do not parse; the reason names the line and the field.
    #[error("the cards in {place} are not right: {reason}")]
    Malformed {
        /// Which file.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Two cards of one file answer to one name.
    #[error("the cards in {place} use the name `{name}` twice")]
    Duplicate {
        /// Which file.
        place: String,
        /// The name.
        name: String,
    },
    /// A template names a card that there is none of.
    #[error("template `{template}`: {field} is `{name}`, and no card is called so{hint}")]
    Dangling {
        /// The template.
        template: String,
        /// Its field.
        field: &'static str,
        /// What it says.
        name: String,
        /// The nearest names, where any is near.
        hint: String,
    },
    /// Nothing of the kind has this name.
    #[error("no {kind} is called `{name}`{hint}; `chandler {command}` lists all")]
    Unknown {
        /// What was looked for: a model card, a hardware card, a template.
        kind: &'static str,
        /// The command that lists them.
        command: &'static str,
        /// What was asked for.
        name: String,
        /// The nearest names, where any is near.
        hint: String,
    },
}

/// All cards and templates, the user's first.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    file: CatalogFile,
}

impl Catalog {
    /// The cards that are compiled in.
    ///
    /// # Errors
    /// When they do not parse, which a test rules out.
    pub fn built_in() -> Result<Self, CatalogError> {
        Self::of(CatalogFile::parse(BUILT_IN, "models.toml")?)
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
        Self::with_text(&text, &path.display().to_string())
    }

    /// The same of a user's file that was read, or is not written yet; `place` is what errors call it.
    fn with_text(text: &str, place: &str) -> Result<Self, CatalogError> {
        let user = CatalogFile::parse(text, place)?;
        Self::of(CatalogFile::parse(BUILT_IN, "models.toml")?.under(user))
    }

    /// Checks that templates name cards that there are.
    fn of(file: CatalogFile) -> Result<Self, CatalogError> {
        let catalog = Self { file };
        for template in &catalog.file.templates {
            let dangling = |field, name: &str, hint| CatalogError::Dangling {
                template: template.id.clone(),
                field,
                name: name.to_owned(),
                hint,
            };
            if catalog.get(&template.model).is_none() {
                let hint = did_you_mean(&template.model, catalog.names());
                return Err(dangling("model", &template.model, hint));
            }
            if !template.is_on_the_cpu() && catalog.find_hardware(&template.hardware).is_err() {
                let hint = did_you_mean(&template.hardware, catalog.hardware_names());
                return Err(dangling("hardware", &template.hardware, hint));
            }
        }
        Ok(catalog)
    }

    /// All model cards.
    pub fn cards(&self) -> &[Card] {
        &self.file.models
    }

    /// All hardware cards.
    pub fn hardware(&self) -> &[Hardware] {
        &self.file.hardware
    }

    /// All templates.
    pub fn templates(&self) -> &[Template] {
        &self.file.templates
    }

    /// The card that answers to a name: an id, an alias or a hub id, in any case.
    pub fn get(&self, name: &str) -> Option<&Card> {
        self.cards().iter().find(|card| card.answers_to(name))
    }

    /// Like [`Catalog::get`], for those who have no use for a model without a card.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] with the nearest names.
    pub fn find(&self, name: &str) -> Result<&Card, CatalogError> {
        let unknown = || self.unknown(("model card", "models"), name, self.names());
        self.get(name).ok_or_else(unknown)
    }

    /// The hardware card of a name: ours or a platform's, in any case. Ours come first.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] with the nearest names.
    pub fn find_hardware(&self, name: &str) -> Result<&Hardware, CatalogError> {
        let is = |own: &str| own.eq_ignore_ascii_case(name);
        let named = |card: &&Hardware| is(&card.id) || card.aliases.iter().any(|own| is(own));
        let cards = || self.hardware().iter();
        let found = cards().find(named);
        let found = found.or_else(|| cards().find(|card| card.names().any(is)));
        let unknown = || self.unknown(("hardware card", "hardware"), name, self.hardware_names());
        found.ok_or_else(unknown)
    }

    /// The template of a name, in any case.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`] with the nearest names.
    pub fn find_template(&self, name: &str) -> Result<&Template, CatalogError> {
        let names = || self.templates().iter().map(|template| template.id.as_str());
        let is = |template: &&Template| template.id.eq_ignore_ascii_case(name);
        let unknown = || self.unknown(("template", "templates"), name, names());
        self.templates().iter().find(is).ok_or_else(unknown)
    }

    fn unknown<'a>(
        &self,
        (kind, command): (&'static str, &'static str),
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> CatalogError {
        CatalogError::Unknown {
            kind,
            command,
            name: name.to_owned(),
            hint: did_you_mean(name, known),
        }
    }

    /// Cards that hold a text in a name, their task, architecture or licence, in any case; all for an empty text.
    pub fn search<'a>(&'a self, text: &str) -> Vec<&'a Card> {
        let wanted = text.to_lowercase();
        let cards = self.cards().iter();
        cards.filter(|card| card.mentions(&wanted)).collect()
    }

    /// The names nearest to one that is not known.
    pub fn near(&self, name: &str) -> Vec<&str> {
        nearest(name, self.names())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.cards().iter().flat_map(Card::names)
    }

    fn hardware_names(&self) -> impl Iterator<Item = &str> {
        self.hardware().iter().flat_map(Hardware::names)
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
        for card in catalog.cards() {
            card.check()
                .unwrap_or_else(|what| panic!("{}: {what}", card.id));
        }
        let served = |card: &&Card| card.tested != Tested::NotServedYet;
        assert!(catalog.cards().iter().filter(served).count() >= 40);
        assert!(catalog.hardware().len() >= 20 && catalog.templates().len() >= 3);
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

    #[test]
    fn what_the_deploy_api_had_in_its_registry_is_here() {
        let catalog = Catalog::built_in().unwrap();
        for id in [
            "black-forest-labs/FLUX.1-schnell",
            "black-forest-labs/FLUX.1-dev",
            "stabilityai/stable-diffusion-xl-base-1.0",
            "stabilityai/sdxl-turbo",
            "stabilityai/sd-turbo",
            "stabilityai/stable-diffusion-2-1",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "stabilityai/stable-diffusion-3-medium-diffusers",
            "stabilityai/stable-diffusion-3.5-large",
            "stabilityai/stable-diffusion-3.5-large-turbo",
            "stabilityai/stable-diffusion-3.5-medium",
            "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            "kandinsky-community/kandinsky-2-2-decoder",
            "DeepFloyd/IF-I-XL-v1.0",
            "Wan-AI/Wan2.1-T2V-14B-Diffusers",
            "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
            "openai/whisper-large-v3",
            "openai/whisper-large-v3-turbo",
            "microsoft/speecht5_tts",
            "cvssp/audioldm2",
            "suno/bark",
        ] {
            assert!(catalog.get(id).is_some(), "{id}");
        }
    }

    #[test]
    fn hardware_is_found_by_our_name_before_a_platforms() {
        let catalog = Catalog::built_in().unwrap();
        let found = |name: &str| catalog.find_hardware(name).unwrap().id.as_str();
        assert_eq!(found("L4"), "l4");
        assert_eq!(found("nvidia geforce rtx 4090"), "rtx-4090");
        assert_eq!(found("NVIDIA_TESLA_T4"), "t4");
        let error = catalog.find_hardware("rtx-4091").unwrap_err().to_string();
        assert!(
            error.contains("hardware card") && error.contains("rtx-4090"),
            "{error}"
        );
    }

    #[test]
    fn a_users_hardware_and_templates_add_or_override() {
        let user = file(
            "[[hardware]]\nid = \"L4\"\nname = \"Ours\"\nmemory_gb = 24\narchitecture = \"ada\"\ncapability = \"8.9\"\ncost_order = 1\n\
             [[template]]\nid = \"mine\"\nmodel = \"demo\"\nhardware = \"l4\"\n",
        );
        let catalog = Catalog::with_file(user.path()).unwrap();
        let built_in = Catalog::built_in().unwrap();
        assert_eq!(catalog.find_hardware("l4").unwrap().name, "Ours");
        assert_eq!(catalog.hardware().len(), built_in.hardware().len());
        assert_eq!(catalog.templates().len(), built_in.templates().len() + 1);
        assert_eq!(catalog.find_template("MINE").unwrap().model, "demo");
    }

    #[test]
    fn a_template_of_unknown_hardware_or_model_is_refused() {
        for (text, told) in [
            ("model = \"demo\"\nhardware = \"l5\"", "hardware is `l5`"),
            ("model = \"dem\"\nhardware = \"cpu\"", "model is `dem`"),
        ] {
            let user = file(&format!("[[template]]\nid = \"mine\"\n{text}\n"));
            let error = Catalog::with_file(user.path()).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("mine"), "{error}");
        }
    }
}
