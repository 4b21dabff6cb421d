//! In which dtype is computed: parsed from what the user wrote, decided for `auto`. Apart from the device, which is one of its reasons;
//! the dtype that weights are stored in is another.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

use super::cuda;
use crate::error::{NnError, Result};

/// The dtype that the user asked to compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DTypeChoice {
    /// What suits the device and the checkpoint.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, up to 65504.
    F16,
    /// 16 bits with the range of f32.
    Bf16,
}

impl DTypeChoice {
    /// Whether a device computes in the dtype that was asked for.
    ///
    /// # Errors
    /// [`NnError::Device`] for bf16 on a GPU that has none.
    pub fn check(self, device: &Device) -> Result<()> {
        match cuda::compute_capability(device) {
            Some((major, minor)) if self == Self::Bf16 && major < 8 => {
                Err(NnError::Device(format!(
                    "dtype bf16: a GPU of compute capability {major}.{minor} has none, 8.0 is the first with it: use f16 or f32"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The dtype to compute in, for weights stored as `stored`: f32, f16 or bf16.
    pub fn resolve(self, stored: DType, device: &Device) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
            Self::Auto if device.is_cuda() => {
                auto_on_cuda(stored, cuda::compute_capability(device))
            }
            // Weights stay as they are stored and are widened on the fly, so that f32 costs no memory; and the same tokens alone
            // or in any company are only promised in f32.
            Self::Auto => DType::F32,
        }
    }
}

/// Compute capability 8 (Ampere) is the first with bf16 in its tensor cores; before it candle has no bf16 kernels at all.
/// There f32 weights are computed in bf16 as well: half the memory and many times the speed, and with the range of f32
/// nothing overflows. A checkpoint in f16 is known to fit f16. Before 8.0 (a T4) bf16 weights are computed in f16, which has
/// tensor cores there and f32 has not; a model that overflows it (its largest number is 65504) wants `--dtype f32`.
fn auto_on_cuda(stored: DType, compute_capability: Option<(i32, i32)>) -> DType {
    match (stored, has_bf16(compute_capability)) {
        (DType::F16, _) | (DType::BF16, false) => DType::F16,
        (_, true) => DType::BF16,
        (_, false) => DType::F32,
    }
}

fn has_bf16(compute_capability: Option<(i32, i32)>) -> bool {
    compute_capability.is_some_and(|(major, _)| major >= 8)
}

impl FromStr for DTypeChoice {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "f32" | "float32" | "float" => Ok(Self::F32),
            "f16" | "float16" | "fp16" | "half" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            _ => Err(NnError::Device(format!(
                "dtype `{text}` is not known: use auto, f32 (float32), f16 (float16, half) or bf16 (bfloat16)"
            ))),
        }
    }
}

impl fmt::Display for DTypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dtype_is_parsed_with_its_synonyms() {
        for (text, choice) in [
            ("auto", DTypeChoice::Auto),
            ("float32", DTypeChoice::F32),
            ("f32", DTypeChoice::F32),
            ("half", DTypeChoice::F16),
            ("float16", DTypeChoice::F16),
            ("F16", DTypeChoice::F16),
            ("bfloat16", DTypeChoice::Bf16),
            ("bf16", DTypeChoice::Bf16),
        ] {
            let parsed: DTypeChoice = text.parse().unwrap();
            assert_eq!(parsed, choice);
            assert_eq!(parsed.to_string().parse::<DTypeChoice>().unwrap(), choice);
        }
        let error = "int8".parse::<DTypeChoice>().unwrap_err().to_string();
        assert!(error.contains("use auto, f32"), "{error}");
    }

    #[test]
    fn the_dtype_follows_the_device_unless_it_was_asked_for() {
        for stored in [DType::F32, DType::F16, DType::BF16] {
            let resolve = |choice: DTypeChoice| choice.resolve(stored, &Device::Cpu);
            assert_eq!(resolve(DTypeChoice::Auto), DType::F32);
            assert_eq!(resolve(DTypeChoice::F16), DType::F16);
            assert_eq!(resolve(DTypeChoice::Bf16), DType::BF16);
        }
        assert_eq!(auto_on_cuda(DType::BF16, Some((9, 0))), DType::BF16);
        assert_eq!(auto_on_cuda(DType::F32, Some((8, 0))), DType::BF16);
        assert_eq!(auto_on_cuda(DType::F16, Some((8, 9))), DType::F16);
        assert_eq!(auto_on_cuda(DType::F16, Some((7, 5))), DType::F16);
        assert_eq!(auto_on_cuda(DType::BF16, Some((7, 5))), DType::F16);
        assert_eq!(auto_on_cuda(DType::F32, Some((7, 5))), DType::F32);
        assert_eq!(auto_on_cuda(DType::BF16, None), DType::F16);
    }
}
