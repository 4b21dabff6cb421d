//! ggml's tensor types: their numbers, names and block sizes, and which of them are read.
//! Sources: `enum ggml_type` in ggml.h, and the block structures in ggml-common.h.

use candle_core::DType;

use super::super::{QuantType, StoredType};

/// A tensor type of the format.
#[derive(Debug, PartialEq, Eq)]
pub struct GgmlType {
    /// Its number in files.
    pub number: u32,
    /// Its name, as in `Q4_K`.
    pub name: &'static str,
    /// Numbers in a block.
    pub block: usize,
    /// Bytes of a block.
    pub bytes: usize,
}

const fn row(number: u32, name: &'static str, block: usize, bytes: usize) -> GgmlType {
    GgmlType {
        number,
        name,
        block,
        bytes,
    }
}

/// Every type whose size is known. Those that are not read are here all the same, so that a file that has them beside others
/// is still checked, and an error can name them.
pub(super) const TYPES: &[GgmlType] = &[
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 40),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
];

impl GgmlType {
    /// The type with this number in a file.
    pub fn numbered(number: u32) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.number == number)
    }

    /// The type that such a number is stored as here.
    pub fn of(stored: StoredType) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.stored() == Some(stored))
    }

    /// How such numbers are read; nothing for a type that is only known by its size.
    pub fn stored(&self) -> Option<StoredType> {
        if let Some(kind) = QuantType::from_ggml_id(self.number) {
            return Some(StoredType::Quant(kind));
        }
        let dtype = match self.name {
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            "F64" => DType::F64,
            "I16" => DType::I16,
            "I32" => DType::I32,
            "I64" => DType::I64,
            _ => return None,
        };
        Some(StoredType::Plain(dtype))
    }

    /// Bytes of a row-major shape, or nothing when its rows are no whole blocks or it cannot be addressed.
    pub fn byte_len(&self, shape: &[usize]) -> Option<usize> {
        let width = shape.last().copied().unwrap_or(1);
        if !width.is_multiple_of(self.block) {
            return None;
        }
        let elements = shape
            .iter()
            .try_fold(1usize, |product, dimension| product.checked_mul(*dimension))?;
        (elements / self.block).checked_mul(self.bytes)
    }
}
