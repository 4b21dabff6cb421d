//! What a picture was drawn from, as one text in the form of A1111's web UI, which most programs about such pictures read.

use std::fmt;

use chandler_core::Recipe;

use super::on_a_line;

/// What would draw a picture again. What is empty or `None` is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters<'a> {
    /// What is to be seen.
    pub prompt: &'a str,
    /// What is not to be seen.
    pub negative_prompt: &'a str,
    /// Steps that were run.
    pub steps: u32,
    /// The scheduler's class in diffusers.
    pub scheduler: &'a str,
    /// The guidance.
    pub guidance_scale: Option<f64>,
    /// The guidance by the negative prompt besides.
    pub true_guidance_scale: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// Columns of pixels.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// The model's name.
    pub model: &'a str,
    /// How much of a first picture could change.
    pub strength: Option<f64>,
    /// Where the refiner went on.
    pub denoising_end: Option<f64>,
    /// How much of the drawing the refiner could change.
    pub refiner_strength: Option<f64>,
    /// Layers that were left out at the text encoder's end.
    pub clip_skip: Option<u32>,
    /// Adapters with their weights.
    pub loras: &'a [(String, f32)],
}

impl<'a> Parameters<'a> {
    /// The same with what a picture says of itself.
    pub fn of(self, recipe: &'a Recipe, (width, height): (u32, u32)) -> Self {
        Self {
            steps: recipe.steps,
            scheduler: &recipe.scheduler,
            guidance_scale: recipe.guidance_scale,
            true_guidance_scale: recipe.true_guidance_scale,
            seed: recipe.seed,
            strength: recipe.strength,
            denoising_end: recipe.denoising_end,
            refiner_strength: recipe.refiner_strength,
            width,
            height,
            ..self
        }
    }
}

impl fmt::Display for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prompt)?;
        for (name, weight) in self.loras {
            write!(f, " <lora:{name}:{weight}>")?;
        }
        f.write_str("\n")?;
        if !self.negative_prompt.is_empty() {
            writeln!(f, "Negative prompt: {}", self.negative_prompt)?;
        }
        let number = |number: f64| number.to_string();
        let fields = [
            ("Steps", Some(self.steps.to_string())),
            ("Sampler", some(self.scheduler)),
            ("CFG scale", self.guidance_scale.map(number)),
            ("True CFG scale", self.true_guidance_scale.map(number)),
            ("Seed", Some(self.seed.to_string())),
            ("Size", Some(format!("{}x{}", self.width, self.height))),
            ("Model", some(self.model)),
            ("Denoising strength", self.strength.map(number)),
            ("Refiner switch at", self.denoising_end.map(number)),
            ("Refiner strength", self.refiner_strength.map(number)),
            // There, 1 leaves out none.
            (
                "Clip skip",
                self.clip_skip
                    .map(|layers| layers.saturating_add(1).to_string()),
            ),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}: {}", quoted(&value?))));
        f.write_str(&fields.collect::<Vec<_>>().join(", "))
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| on_a_line(text).into_owned())
}

/// Commas and colons part fields: a text with one is written as JSON, as there.
fn quoted(text: &str) -> String {
    match text.contains([',', ':', '"']) {
        true => serde_json::Value::from(text).to_string(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_others_write_it() {
        let recipe = Recipe {
            seed: 7,
            steps: 20,
            scheduler: "EulerDiscreteScheduler".into(),
            guidance_scale: Some(7.5),
            true_guidance_scale: Some(2.5),
            strength: Some(0.6),
            denoising_end: Some(0.8),
            ..Recipe::default()
        };
        let parameters = Parameters {
            prompt: "a circle,\nred",
            negative_prompt: "blue",
            model: "org/name:tag",
            clip_skip: Some(2),
            loras: &[("ink".into(), 0.5)],
            ..Parameters::default()
        };
        assert_eq!(
            parameters.of(&recipe, (64, 32)).to_string(),
            "a circle,\nred <lora:ink:0.5>\nNegative prompt: blue\nSteps: 20, Sampler: EulerDiscreteScheduler, CFG scale: 7.5, True CFG scale: 2.5, \
             Seed: 7, Size: 64x32, Model: \"org/name:tag\", Denoising strength: 0.6, Refiner switch at: 0.8, Clip skip: 3"
        );
    }
}
