//! What quantised weights are multiplied with: x as it is, or x as bytes. Apart from how weights are stored, which it does not
//! change, and from the products themselves.

use std::str::FromStr;
use std::sync::Arc;

use candle_core::Device;

use super::{HostTensor, TensorSource};
use crate::error::{NnError, Result};

/// What the input of a layer with quantised weights is multiplied as, on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// As it is: the products are those of the dequantised weights, to the bit.
    #[default]
    F32,
    /// Each 32 numbers of a row as bytes with a scale of their own, found while the product is made ("dynamic quantisation",
    /// W8A8 or W4A8, as llama.cpp and CTranslate2 do it): up to three times as fast, and a product is off by some half percent.
    Int8,
}

impl Activations {
    /// The name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }

    /// The same tensors, of which layers with quantised weights multiply their input so.
    ///
    /// # Errors
    /// [`NnError::Input`] when bytes are asked for off the CPU, or of a model without quantised weights.
    pub fn apply(
        self,
        source: Arc<dyn TensorSource>,
        device: &Device,
    ) -> Result<Arc<dyn TensorSource>> {
        let refused = |reason: &str| NnError::Input {
            what: "activations",
            reason: reason.to_owned(),
        };
        if self == Self::F32 {
            return Ok(source);
        }
        if !device.is_cpu() {
            let reason = "int8 is for the CPU: leave it out, or take --device cpu";
            return Err(refused(reason));
        }
        let mut quantised = false;
        for name in source.names() {
            quantised = quantised || source.tensor(&name)?.quantized().is_some();
        }
        if !quantised {
            return Err(refused(
                "int8 is for quantised weights, and this model has none: take --quantize q8_0 or q4k as well, or a GGUF file",
            ));
        }
        Ok(Arc::new(Marked {
            source,
            activations: self,
        }))
    }
}

impl FromStr for Activations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            other => Err(format!(
                "{other} is unknown; f32 and int8 are what there is"
            )),
        }
    }
}

/// A source whose tensors say what they are multiplied with.
struct Marked {
    source: Arc<dyn TensorSource>,
    activations: Activations,
}

impl TensorSource for Marked {
    fn tensor(&self, name: &str) -> Result<HostTensor> {
        let tensor = self.source.tensor(name)?;
        Ok(tensor.with_activations(self.activations))
    }

    fn contains(&self, name: &str) -> bool {
        self.source.contains(name)
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn total_bytes(&self) -> u64 {
        self.source.total_bytes()
    }

    fn stamp(&self) -> String {
        self.source.stamp()
    }

    fn metadata(&self, name: &str) -> Option<String> {
        self.source.metadata(name)
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<()> {
        self.source.prefetch(progress)
    }
}
