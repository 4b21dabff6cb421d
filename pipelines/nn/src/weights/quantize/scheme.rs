//! Which tensor becomes what. Apart from the doing of it, and the same for the cache and for memory.

use std::str::FromStr;

use super::super::{HostTensor, QuantType, StoredType};

/// The schemes that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// As llama.cpp's Q4_K_M: matrices in Q4_K, the head and the more sensitive half of the value and down projections in Q6_K.
    Q4K,
    /// All in Q8_0.
    Q8_0,
}

impl Scheme {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4K => "q4k",
            Self::Q8_0 => "q8_0",
        }
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "q4k" => Ok(Self::Q4K),
            "q8_0" => Ok(Self::Q8_0),
            other => Err(format!("{other} is no scheme; q4k and q8_0 are")),
        }
    }
}

/// What a tensor is to its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A matrix that every token goes through.
    Matrix,
    /// The same, where mistakes are seen most: given more bits.
    Sensitive,
    /// What logits come from; with tied embeddings also the table.
    Head,
    /// A norm, a bias, a table of which single rows are read, a router: kept as it is.
    Kept,
}

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// How it is stored in the end.
    pub(super) stored: StoredType,
    /// Whether its rows were too odd for what the scheme asks.
    pub(super) fell_back: bool,
}

impl Chosen {
    /// Whether it is quantised, and not kept.
    pub(super) fn made(&self) -> bool {
        matches!(self.stored, StoredType::Quant(_))
    }
}

impl Scheme {
    /// Chooses for a tensor that is not quantised. `name` is what its source calls it, which a file may not.
    pub(super) fn choose(self, name: &str, tensor: &HostTensor, role: Role) -> Chosen {
        let wanted = match (self, role) {
            (_, Role::Kept) => None,
            (Self::Q8_0, _) => Some(QuantType::Q8_0),
            (Self::Q4K, Role::Matrix) => Some(QuantType::Q4K),
            (Self::Q4K, Role::Sensitive | Role::Head) => Some(QuantType::Q6K),
        };
        // A vector is no matrix, whatever it is called, and what is no float is no weight.
        let matrix = tensor.shape().len() >= 2 && float(tensor);
        let columns = tensor.shape().last().copied().unwrap_or(0);
        let fits = |kind: &QuantType| columns > 0 && columns.is_multiple_of(kind.block_len());
        let wanted = wanted.filter(|_| matrix);
        let found = wanted
            .into_iter()
            .chain(wanted.map(|_| QuantType::Q8_0))
            .find(|kind| fits(kind));
        Chosen {
            name: name.to_owned(),
            shape: tensor.shape().to_vec(),
            stored: found.map_or(tensor.stored(), StoredType::Quant),
            fell_back: wanted.is_some() && found != wanted,
        }
    }
}

fn float(tensor: &HostTensor) -> bool {
    use candle_core::DType;
    matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16)
}
