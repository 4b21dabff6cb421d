//! The block-quantised number formats of GGUF files: their sizes, and making them from f32.
//! Apart from `host_tensor`, which holds such bytes, and from `dequantize`, which reads them back.

use super::HostTensor;
use crate::error::{NnError, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

/// A format of numbers in blocks that share their scales, as ggml lays it out (`ggml-common.h`: `block_q8_0` and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuantType {
    /// 4 bits, a scale for 32; 18 bytes.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32; 20 bytes.
    Q4_1,
    /// 5 bits, a scale for 32; 22 bytes.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32; 24 bytes.
    Q5_1,
    /// 8 bits, a scale for 32; 34 bytes.
    Q8_0,
    /// 4 bits, a 6-bit scale and minimum for 32, and a scale of those for 256; 144 bytes.
    Q4K,
    /// 5 bits, scales as in [`Q4K`](Self::Q4K); 176 bytes.
    Q5K,
    /// 6 bits, an 8-bit scale for 16, and a scale of those for 256; 210 bytes.
    Q6K,
}

impl QuantType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Numbers in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// ggml's name, as in `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// ggml's number (`enum ggml_type`), as it stands in a GGUF file.
    pub const fn ggml_id(self) -> u32 {
        match self {
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
        }
    }

    /// The format of that number; `None` for a plain dtype and for a format that is not read here.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.ggml_id() == id)
    }

    /// Bytes of `len` numbers in a row; `None` when they are no whole blocks, or too many for a `usize`.
    pub fn byte_len(self, len: usize) -> Option<usize> {
        let whole = len.is_multiple_of(self.block_len());
        (len / self.block_len())
            .checked_mul(self.block_bytes())
            .filter(|_| whole)
    }

    pub(super) fn candle(self) -> GgmlDType {
        match self {
            Self::Q4_0 => GgmlDType::Q4_0,
            Self::Q4_1 => GgmlDType::Q4_1,
            Self::Q5_0 => GgmlDType::Q5_0,
            Self::Q5_1 => GgmlDType::Q5_1,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q5K => GgmlDType::Q5K,
            Self::Q6K => GgmlDType::Q6K,
        }
    }
}

/// How a tensor's numbers lie in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredType {
    /// One after the other.
    Plain(DType),
    /// In blocks that share their scales; the last dimension is whole blocks.
    Quant(QuantType),
}

impl StoredType {
    /// The name for messages: `bf16`, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.as_str(),
            Self::Quant(kind) => kind.name(),
        }
    }

    /// Bytes of a tensor of this shape; `None` when rows are no whole blocks, when it does not fit a `usize`, or when the
    /// dtype has no whole bytes.
    pub fn byte_len(self, shape: &[usize]) -> Option<usize> {
        let (last, element) = match (self, shape) {
            (Self::Plain(dtype), _) => (shape, dtype.size_in_bytes()),
            (Self::Quant(kind), [outer @ .., columns]) => (outer, kind.byte_len(*columns)?),
            (Self::Quant(_), []) => return None,
        };
        if element == 0 && !matches!(self, Self::Quant(_)) {
            return None;
        }
        last.iter()
            .try_fold(element, |bytes, dimension| bytes.checked_mul(*dimension))
    }
}

impl From<DType> for StoredType {
    fn from(dtype: DType) -> Self {
        Self::Plain(dtype)
    }
}

impl From<QuantType> for StoredType {
    fn from(kind: QuantType) -> Self {
        Self::Quant(kind)
    }
}

/// Quantises numbers, whole blocks of them, on all threads: candle's `from_float`, which follows ggml's reference functions.
/// All kinds can be made; Q8_0, Q4_K and Q6_K are what quantise-on-load uses.
///
/// # Errors
/// [`NnError::Input`] when `numbers` are no whole blocks.
pub fn quantize(kind: QuantType, numbers: &[f32]) -> Result<Vec<u8>> {
    /// Numbers in one piece of work for a thread; whole blocks of every kind.
    const PIECE: usize = 1 << 16;
    let Some(bytes) = kind.byte_len(numbers.len()) else {
        return Err(NnError::Input {
            what: "quantize",
            reason: format!(
                "{} numbers to {}; a multiple of {} is wanted",
                numbers.len(),
                kind.name(),
                kind.block_len()
            ),
        });
    };
    let mut out: Vec<u8> = bytemuck::zeroed_vec(bytes);
    out.par_chunks_mut(PIECE / kind.block_len() * kind.block_bytes())
        .zip(numbers.par_chunks(PIECE))
        .try_for_each(|(out, numbers)| {
            let tensor = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)?;
            let made = QTensor::quantize(&tensor, kind.candle())?;
            out.copy_from_slice(&made.data()?);
            Ok(())
        })
        .map_err(|source: candle_core::Error| NnError::from(source))?;
    Ok(out)
}

/// Quantises a tensor of f32, f16 or bf16 numbers, keeping its name and shape.
///
/// # Errors
/// [`NnError::Blocks`] when its rows are no whole blocks, [`NnError::DType`] when it holds something else.
pub fn quantize_tensor(kind: QuantType, tensor: &HostTensor) -> Result<HostTensor> {
    let columns = tensor.shape().last().copied().unwrap_or(1);
    if kind.byte_len(columns).is_none() {
        return Err(NnError::Blocks {
            name: tensor.name().to_owned(),
            kind: kind.name(),
            columns,
            block: kind.block_len(),
        });
    }
    let bytes = quantize(kind, &tensor.to_f32()?)?;
    HostTensor::from_bytes(tensor.name(), kind, tensor.shape().to_vec(), bytes)
}
