//! What a failed pass or load means: memory that ran out, with what was needed and what is free; a device that is gone; or
//! something that other requests may not meet. Apart from the pipeline, which only asks.

use candle_core::{DType, Device};
use chandler_core::StepError;
use chandler_nn::device::failure::{self, free, mebibytes};

use crate::config::{DecoderConfig, FeedForwardConfig};
use crate::error::TextError;
use crate::planning::StepPlan;

/// Bytes that a pass needs besides weights and cache, as far as the model's sizes tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appetite {
    token: u64,
    logits: u64,
}

impl Appetite {
    /// Of a model that computes in `dtype`: the widest layer's activations for each token, and a row of logits in f32 beside its
    /// own for each that is wanted.
    pub(crate) fn new(config: &DecoderConfig, dtype: DType) -> Self {
        let width = config.layers.iter().map(|layer| match layer.feed_forward {
            FeedForwardConfig::Gated { width } => 3 * width,
            FeedForwardConfig::Plain { width } => 2 * width,
            FeedForwardConfig::Experts(experts) => 3 * experts.width * experts.per_token,
        });
        let attention = (config.heads + 2 * config.kv_heads) * config.head_dim;
        let widest = width.max().unwrap_or(0).max(attention) + 3 * config.hidden_size;
        let size = dtype.size_in_bytes();
        Self {
            token: (widest * size) as u64,
            logits: (config.vocab_size * (size + DType::F32.size_in_bytes())) as u64,
        }
    }

    fn of(&self, tokens: usize, wanted: usize) -> u64 {
        self.token * tokens as u64 + self.logits * wanted as u64
    }
}

/// The tokens of a pass, and the rows of logits that were wanted of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) tokens: usize,
    pub(crate) wanted: usize,
}

impl Size {
    pub(crate) fn of(plan: &StepPlan) -> Self {
        Self {
            tokens: plan.items.iter().map(|item| item.positions.len()).sum(),
            wanted: plan.items.iter().map(|item| item.wanted.len()).sum(),
        }
    }
}

/// What the failure of a pass means for its batch.
pub(crate) fn of_pass(
    error: &TextError,
    size: Size,
    appetite: Appetite,
    device: &Device,
) -> StepError {
    let nn = match error {
        TextError::Nn(nn) => Some(nn),
        _ => None,
    };
    let sizes = || {
        format!(
            "; this step of {} tokens needs about {}{}",
            size.tokens,
            mebibytes(appetite.of(size.tokens, size.wanted)),
            free(device)
        )
    };
    failure::of_pass(&error.to_string(), nn, sizes)
}

/// The error of a load, with sizes where memory ran out; `needed` are the bytes of weights and cache.
pub(crate) fn while_loading(error: TextError, needed: u64, device: &Device) -> TextError {
    let told = failure::while_loading(&error.to_string(), needed, device);
    told.map_or(error, TextError::from)
}

#[cfg(test)]
mod tests {
    use chandler_nn::error::NnError;

    use super::*;

    const APPETITE: Appetite = Appetite {
        token: 1 << 20,
        logits: 1 << 21,
    };

    fn cuda(code: &str) -> TextError {
        let said = format!("DriverError({code}, \"as the driver says it\")");
        candle_core::Error::Msg(said).into()
    }

    fn kind_of(error: &TextError) -> StepError {
        let size = Size {
            tokens: 10,
            wanted: 3,
        };
        of_pass(error, size, APPETITE, &Device::Cpu)
    }

    #[test]
    fn memory_that_ran_out_is_told_with_what_the_step_needs() {
        let StepError::OutOfMemory(said) = kind_of(&cuda("CUDA_ERROR_OUT_OF_MEMORY")) else {
            panic!("another kind");
        };
        assert!(
            said.contains("this step of 10 tokens needs about 16 MiB"),
            "{said}"
        );
        let host = TextError::Nn(NnError::HostMemory { bytes: 7 });
        assert!(matches!(kind_of(&host), StepError::OutOfMemory(_)));
    }

    #[test]
    fn a_crashed_kernel_or_a_broken_device_ends_the_engine() {
        for code in [
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            "CUDA_ERROR_LAUNCH_FAILED",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            "CUDA_ERROR_MISALIGNED_ADDRESS",
            "CUDA_ERROR_UNKNOWN",
        ] {
            let StepError::Fatal(said) = kind_of(&cuda(code)) else {
                panic!("{code} is another kind");
            };
            assert!(said.contains(code), "{said}");
        }
    }

    #[test]
    fn anything_else_is_tried_alone() {
        for error in [
            cuda("CUDA_ERROR_INVALID_VALUE"),
            cuda("CUDA_ERROR_NO_BINARY_FOR_GPU"),
            TextError::Nn(NnError::Device("request 3 was out of memory of it".into())),
        ] {
            assert!(matches!(kind_of(&error), StepError::Batch(_)), "{error}");
        }
    }

    #[test]
    fn a_load_that_does_not_fit_says_how_much_it_is() {
        let full = while_loading(cuda("CUDA_ERROR_OUT_OF_MEMORY"), 5 << 30, &Device::Cpu);
        assert!(full.to_string().contains("need about 5120 MiB"), "{full}");
        let other = while_loading(TextError::Tokenizer("x".into()), 1, &Device::Cpu);
        assert_eq!(other.to_string(), "tokenizer: x");
    }
}
