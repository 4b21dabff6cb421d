//! What the files of a model's weights are called. Apart from the places that they lie in, all of which ask for the same names.

/// The weights when they are one file.
const SINGLE: &str = ".safetensors";
/// The list of shards when they are several.
const INDEX: &str = ".safetensors.index";
/// Precisions that a publisher marks in file names. Where a folder has several, the unmarked one is taken, as diffusers does when no
/// variant is asked for; a download brings one only.
const MARKS: [&str; 3] = ["", ".fp16", ".bf16"];

/// The names of one set of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFiles {
    /// The file, when it is one.
    pub single: String,
    /// The list of shards, when they are several.
    pub index: String,
}

impl WeightFiles {
    /// `model.safetensors`, `model.fp16.safetensors`: a stem, and a mark with the dot before it, or none.
    pub fn new(stem: &str, mark: &str) -> Self {
        Self {
            single: format!("{stem}{mark}{SINGLE}"),
            index: format!("{stem}{INDEX}{mark}.json"),
        }
    }

    /// All names under which diffusers saves a part of a model, and those of transformers.
    pub fn of_parts() -> Vec<Self> {
        let stems = ["diffusion_pytorch_model", "model"];
        let of = |stem| MARKS.iter().map(move |mark| Self::new(stem, mark));
        stems.into_iter().flat_map(of).collect()
    }

    /// Both names, for an error.
    pub(super) fn either(&self) -> String {
        format!("{} or {}", self.single, self.index)
    }
}

impl Default for WeightFiles {
    /// As transformers saves a model.
    fn default() -> Self {
        Self::new("model", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_libraries_write() {
        let usual = WeightFiles::default();
        assert_eq!(usual.single, "model.safetensors");
        assert_eq!(usual.index, "model.safetensors.index.json");
        // `save_pretrained(variant="fp16")` of diffusers.
        let half = WeightFiles::new("diffusion_pytorch_model", ".fp16");
        assert_eq!(half.single, "diffusion_pytorch_model.fp16.safetensors");
        assert_eq!(
            half.index,
            "diffusion_pytorch_model.safetensors.index.fp16.json"
        );
        assert!(WeightFiles::of_parts().contains(&usual));
    }
}
