//! What is done once with a GPU when it is opened, each under a name so that its effect can be measured by leaving it out.

use std::fmt;
use std::str::FromStr;

/// The switches and what they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaTuning {
    /// Freed memory stays with the process instead of going back to the driver at each synchronisation.
    pub keep_memory: bool,
    /// No events around each tensor's uses: they order several streams, and all work here goes through one.
    pub no_events: bool,
    /// f32 products in TF32: many times as fast from capability 8.0 on, with 10 bits of mantissa. Answers change. cuDNN's convolutions
    /// are in TF32 without `plans` whatever this says.
    pub tf32: bool,
    /// f16 and bf16 products summed in 16 bits where cuBLAS likes to. Answers change.
    pub short_sums: bool,
    /// Kernels of our own in the place of candle's operations. Answers change by rounding.
    pub fused: bool,
    /// Weights go to the GPU through pinned memory, by all threads.
    pub staging: bool,
    /// With `fused`: tokens are drawn on the GPU where nothing of a request needs all its logits.
    pub sampling: bool,
    /// With `sampling`: a language model's next pass is launched before the last one's tokens are read.
    pub ahead: bool,
    /// With `fused` and `no_events`: passes that write one token a row are recorded once a size, as CUDA graphs.
    pub graphs: bool,
    /// With cuDNN: what a convolution of one shape needs is found out once.
    pub plans: bool,
    /// Every module of kernels is loaded before the first request, not by it.
    pub preload: bool,
    /// The warm-up runs the model at batches of 1, 2, 4, ... rows, not only once.
    pub warm_up: bool,
}

/// Names in the order of the fields.
const NAMES: [&str; 12] = [
    "keep-memory",
    "no-events",
    "tf32",
    "short-sums",
    "fused",
    "staging",
    "sampling",
    "ahead",
    "graphs",
    "plans",
    "preload",
    "warm-up",
];

impl CudaTuning {
    /// None of them.
    pub const NONE: Self = Self {
        keep_memory: false,
        no_events: false,
        tf32: false,
        short_sums: false,
        fused: false,
        staging: false,
        sampling: false,
        ahead: false,
        graphs: false,
        plans: false,
        preload: false,
        warm_up: false,
    };

    fn fields(&mut self) -> [&mut bool; 12] {
        [
            &mut self.keep_memory,
            &mut self.no_events,
            &mut self.tf32,
            &mut self.short_sums,
            &mut self.fused,
            &mut self.staging,
            &mut self.sampling,
            &mut self.ahead,
            &mut self.graphs,
            &mut self.plans,
            &mut self.preload,
            &mut self.warm_up,
        ]
    }
}

/// Those that change no answer but by rounding.
impl Default for CudaTuning {
    fn default() -> Self {
        Self {
            keep_memory: true,
            no_events: true,
            fused: true,
            staging: true,
            sampling: true,
            ahead: true,
            graphs: true,
            plans: true,
            preload: true,
            warm_up: true,
            ..Self::NONE
        }
    }
}

impl FromStr for CudaTuning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tuning = Self::NONE;
        match text.trim() {
            "default" => return Ok(Self::default()),
            "" => return Ok(tuning),
            _ => {}
        }
        for name in text.split(',').map(str::trim).filter(|n| *n != "none") {
            let at = NAMES.iter().position(|known| *known == name);
            match at.and_then(|at| tuning.fields().into_iter().nth(at)) {
                Some(field) => *field = true,
                None => {
                    return Err(format!(
                        "give default, none, or of {} those that are wanted, with commas between them",
                        NAMES.join(", ")
                    ));
                }
            }
        }
        Ok(tuning)
    }
}

impl fmt::Display for CudaTuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut copy = *self;
        let set = copy.fields().into_iter().zip(NAMES);
        let names: Vec<&str> = set.filter(|(on, _)| **on).map(|(_, name)| name).collect();
        match names.as_slice() {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_they_are_shown() {
        for text in [
            "none",
            "tf32",
            "keep-memory,no-events,fused,staging,sampling,ahead,graphs,plans,preload,warm-up",
        ] {
            assert_eq!(text.parse::<CudaTuning>().unwrap().to_string(), text);
        }
        let usual: CudaTuning = "default".parse().unwrap();
        assert_eq!(usual, CudaTuning::default());
        assert!(!usual.tf32 && !usual.short_sums);
        let one: CudaTuning = " tf32 , preload".parse().unwrap();
        assert!(one.tf32 && one.preload && !one.keep_memory);
    }

    #[test]
    fn an_unknown_switch_is_told_the_known_ones() {
        let error = "keep-memory,fast".parse::<CudaTuning>().unwrap_err();
        assert!(NAMES.iter().all(|name| error.contains(name)), "{error}");
    }
}
