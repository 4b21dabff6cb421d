//! How somebody wants a model to be run, as far as memory follows from it.

use super::PlanError;

/// How a model is to be run. What is not said is as `chandler serve` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whether it computes on a GPU.
    pub gpu: bool,
    /// In which numeric type.
    pub dtype: Dtype,
    /// Into which blocks its matrices are quantised while loading.
    pub quantize: Option<Scheme>,
    /// Tokens of a request, prompt and answer together, where they are fewer than the model's.
    pub context: Option<u64>,
    /// Requests at once.
    pub rows: u64,
    /// Whether as many requests as `rows` are to have their whole context at once, whatever memory that takes.
    pub whole: bool,
    /// Bytes for the cache.
    pub cache: Option<u64>,
    /// Tokens of prompts in a step.
    pub prefill: u64,
    /// Width and height of pictures.
    pub size: Option<(u64, u64)>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            gpu: true,
            dtype: Dtype::Auto,
            quantize: None,
            context: None,
            rows: 32,
            whole: false,
            cache: None,
            prefill: 256,
            size: None,
        }
    }
}

/// A numeric type to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// What suits the device and the checkpoint.
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, up to 65504.
    F16,
    /// 16 bits with the range of f32.
    Bf16,
}

impl Dtype {
    /// Bytes of a number.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Auto | Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// A scheme of quantise-on-load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Matrices in Q4_K, the more sensitive ones and the head in Q6_K.
    Q4k,
    /// All matrices in Q8_0.
    Q8,
}

impl std::str::FromStr for Scheme {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        match text {
            "q4k" => Ok(Self::Q4k),
            "q8_0" => Ok(Self::Q8),
            other => Err(PlanError::Asked {
                field: "quantize",
                reason: format!("{other} is no scheme; q4k and q8_0 are"),
            }),
        }
    }
}
