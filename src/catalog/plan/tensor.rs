//! One tensor as a file's header tells it: how many numbers, of which kind, in how many bytes. Apart from the files' formats,
//! which are two, and from what becomes of a tensor when it is loaded (`weights`).

use std::fmt;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<u64>,
    /// What its numbers are.
    pub stored: Stored,
    /// Bytes in the file.
    pub bytes: u64,
}

/// What a tensor's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// 32 bits.
    F32,
    /// 16 bits, up to 65504.
    F16,
    /// 16 bits with the range of f32.
    Bf16,
    /// Floats in 32 or 16 bits: a card does not always say which.
    Float,
    /// Blocks of fewer bits with scales, by GGML's name.
    Blocks(&'static str),
    /// Anything else, which no weight is: indices, masks.
    Other,
}

impl Stored {
    /// Whether it is computed with.
    pub fn is_weight(self) -> bool {
        self != Self::Other
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Float => "f16, bf16 or f32",
            Self::Blocks(name) => name,
            Self::Other => "integers",
        })
    }
}

impl Tensor {
    /// How many numbers it has.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// How many of them stand in a row.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }
}
