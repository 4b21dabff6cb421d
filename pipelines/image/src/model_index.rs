//! model_index.json of a pipeline in the diffusers layout: which class it is, and which parts it has.
//! Apart from the parts, each of which has a configuration of its own in its folder.

use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;
use serde_json::Value;

use crate::error::Result;

/// The file.
pub const FILE: &str = "model_index.json";

/// Pipelines that share a way of being conditioned and denoised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Stable Diffusion 1 and 2: one CLIP text encoder, a UNet.
    StableDiffusion,
    /// Stable Diffusion XL: two CLIP text encoders, a pooled text and sizes besides.
    StableDiffusionXl,
    /// Stable Diffusion 3 and 3.5: two CLIP text encoders and T5, a transformer.
    StableDiffusion3,
    /// FLUX.1: CLIP's pooled text and T5, a transformer.
    Flux,
    /// PixArt-α and PixArt-Σ: T5, a transformer.
    PixArt,
}

/// Classes of diffusers, and the family of each. What a checkpoint was saved as says nothing of what it can do: with a denoiser of as
/// many channels as the latents, all three tasks are open to it.
const CLASSES: [(&str, Family); 16] = [
    ("StableDiffusionPipeline", Family::StableDiffusion),
    ("StableDiffusionImg2ImgPipeline", Family::StableDiffusion),
    ("StableDiffusionInpaintPipeline", Family::StableDiffusion),
    ("LatentConsistencyModelPipeline", Family::StableDiffusion),
    (
        "LatentConsistencyModelImg2ImgPipeline",
        Family::StableDiffusion,
    ),
    ("StableDiffusionXLPipeline", Family::StableDiffusionXl),
    (
        "StableDiffusionXLImg2ImgPipeline",
        Family::StableDiffusionXl,
    ),
    (
        "StableDiffusionXLInpaintPipeline",
        Family::StableDiffusionXl,
    ),
    ("StableDiffusion3Pipeline", Family::StableDiffusion3),
    ("StableDiffusion3Img2ImgPipeline", Family::StableDiffusion3),
    ("StableDiffusion3InpaintPipeline", Family::StableDiffusion3),
    ("FluxPipeline", Family::Flux),
    ("FluxImg2ImgPipeline", Family::Flux),
    ("FluxInpaintPipeline", Family::Flux),
    ("PixArtAlphaPipeline", Family::PixArt),
    ("PixArtSigmaPipeline", Family::PixArt),
];

/// The classes that are served.
pub fn classes() -> impl Iterator<Item = &'static str> {
    CLASSES.iter().map(|(class, _)| *class)
}

/// What model_index.json says.
#[derive(Debug, Clone)]
pub struct ModelIndex {
    /// The class, by its name in diffusers.
    pub class: String,
    /// Its family.
    pub family: Family,
    fields: Fields,
}

impl ModelIndex {
    /// Reads a snapshot's.
    ///
    /// # Errors
    /// When there is none, or it is of a class that is not served.
    pub fn read(snapshot: &Snapshot) -> Result<Self> {
        let none = || {
            let message = format!("{snapshot} has none; a pipeline in the diffusers layout does");
            chandler_nn::error::NnError::config(FILE, message)
        };
        let fields = Fields::read(snapshot, FILE)?.ok_or_else(none)?;
        let class = fields.text("_class_name")?.unwrap_or_default().to_owned();
        let Some((_, family)) = CLASSES.iter().find(|(name, _)| *name == class) else {
            let known: Vec<&str> = classes().collect();
            let message = format!("{class:?} is not served; {} are", known.join(", "));
            return Err(fields.fault("_class_name", message).into());
        };
        Ok(Self {
            class,
            family: *family,
            fields,
        })
    }

    /// The class of a part, or nothing when the pipeline has none of that name.
    ///
    /// # Errors
    /// When it is not written as [library, class].
    pub fn part(&self, name: &str) -> Result<Option<&str>> {
        match self.fields.get(name) {
            None => Ok(None),
            Some(Value::Array(pair)) => match pair.as_slice() {
                [Value::Null, Value::Null] => Ok(None),
                [_, Value::String(class)] => Ok(Some(class)),
                _ => Err(self.not_a_pair(name)),
            },
            Some(_) => Err(self.not_a_pair(name)),
        }
    }

    /// A part that is of one of some classes.
    ///
    /// # Errors
    /// When it is missing, or of another class.
    pub fn needed_part(&self, name: &str, classes: &[&str]) -> Result<()> {
        match self.part(name)? {
            Some(class) if classes.contains(&class) => Ok(()),
            Some(class) => {
                let message = format!("{class:?} is not supported; {} is", classes.join(" or "));
                Err(self.fields.fault(name, message).into())
            }
            None => {
                let message = format!("it is missing; {} is wanted", classes.join(" or "));
                Err(self.fields.fault(name, message).into())
            }
        }
    }

    /// A switch of the pipeline itself.
    ///
    /// # Errors
    /// When it is neither true nor false.
    pub fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.fields.flag(name)?.unwrap_or(false))
    }

    fn not_a_pair(&self, name: &str) -> crate::error::ImageError {
        let found = self.fields.get(name).unwrap_or(&Value::Null);
        let message = format!("{found} is not [library, class]");
        self.fields.fault(name, message).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(json: &str) -> Result<ModelIndex> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), json).unwrap();
        ModelIndex::read(&Snapshot::dir(dir.path()).unwrap())
    }

    #[test]
    fn parts_are_known_by_their_class() {
        let index = index(
            r#"{"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
                "safety_checker": [null, null], "vae": ["diffusers", "AutoencoderDC"], "odd": "x",
                "force_zeros_for_empty_prompt": true}"#,
        )
        .unwrap();
        assert_eq!(index.family, Family::StableDiffusionXl);
        assert_eq!(index.part("unet").unwrap(), Some("UNet2DConditionModel"));
        assert_eq!(index.part("safety_checker").unwrap(), None);
        assert_eq!(index.part("text_encoder").unwrap(), None);
        assert!(index.part("odd").is_err());
        assert!(index.flag("force_zeros_for_empty_prompt").unwrap());
        let said = index.needed_part("vae", &["AutoencoderKL"]).unwrap_err();
        assert_eq!(
            said.to_string(),
            "model_index.json: vae: \"AutoencoderDC\" is not supported; AutoencoderKL is"
        );
        assert!(
            index
                .needed_part("text_encoder", &["CLIPTextModel"])
                .is_err()
        );
    }

    #[test]
    fn another_class_is_an_error_that_names_it_and_those_that_are_served() {
        let said = index(r#"{"_class_name": "KandinskyPipeline"}"#).unwrap_err();
        let said = said.to_string();
        assert!(said.contains("\"KandinskyPipeline\"") && said.contains("StableDiffusionPipeline"));
        let empty = tempfile::tempdir().unwrap();
        let none = ModelIndex::read(&Snapshot::dir(empty.path()).unwrap());
        assert!(none.unwrap_err().to_string().contains("diffusers layout"));
    }
}
