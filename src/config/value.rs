//! How a setting's text becomes a type that cannot be wrong, and how it is shown again. One small impl per kind of value.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use secrecy::SecretString;

/// A value that a flag, a variable or a file can give as text.
pub trait Value: Sized {
    /// Whether its flag may be given several times; the texts are joined with commas.
    const REPEATED: bool = false;
    /// Whether a wrong text may hold a secret, so that no error repeats it.
    const PRIVATE: bool = false;
    /// What its flag means without a value, where it may stand so.
    const BARE: Option<&'static str> = None;

    /// Reads it.
    ///
    /// # Errors
    /// What would have been accepted, as the end of a sentence ("give …").
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes it for `config show`; a secret only says that it is set.
    fn show(&self) -> String;
}

impl Value for String {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// `auto`, `none` and nothing at all leave the choice to the worker.
impl<T: Value> Value for Option<T> {
    const PRIVATE: bool = T::PRIVATE;

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" | "none" => Ok(None),
            _ => T::parse(text).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// Several values with commas between them.
impl<T: Value> Value for Vec<T> {
    const REPEATED: bool = true;
    const PRIVATE: bool = T::PRIVATE;

    fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(T::parse).collect()
    }

    fn show(&self) -> String {
        let shown: Vec<String> = self.iter().map(T::show).collect();
        shown.join(",")
    }
}

macro_rules! whole_number {
    ($($type:ty, $range:literal;)+) => {$(
        impl Value for $type {
            fn parse(text: &str) -> Result<Self, String> {
                text.replace('_', "").parse().map_err(|_| format!("give a whole number {}", $range))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_number! {
    u16, "from 0 to 65535";
    u32, "from 0 to 4294967295";
    usize, "of 0 or more";
    NonZeroUsize, "of 1 or more";
}

macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident: $($(#[doc = $variant_doc:literal])+ $variant:ident = $word:literal $(| $also:literal)*,)+) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $variant_doc])+ $variant,)+ }

        impl $name {
            /// The word as flags and files write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Value for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($word $(| $also)* => Ok(Self::$variant),)+
                    _ => Err(format!("give one of {}", [$($word),+].join(", "))),
                }
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}

words! {
    /// Numeric type of weights and activations.
    Dtype:
    /// The checkpoint's own on a GPU, f32 on a CPU.
    Auto = "auto",
    /// 32 bits.
    F32 = "f32" | "float32" | "fp32" | "float",
    /// 16 bits, IEEE half precision.
    F16 = "f16" | "float16" | "fp16" | "half",
    /// 16 bits with the range of 32.
    Bf16 = "bf16" | "bfloat16",
}

words! {
    /// How log lines are written.
    LogFormat:
    /// Text on a terminal, JSON elsewhere.
    Auto = "auto",
    /// One JSON object a line.
    Json = "json",
    /// The same with Cloud Logging's field names.
    Google = "google",
    /// As RunPod's console reads it: {"requestId", "message", "level"}, on standard output.
    Runpod = "runpod",
    /// For eyes.
    Text = "text",
}

words! {
    /// Something that is done or not.
    Switch:
    /// Done.
    On = "on" | "true" | "yes" | "1",
    /// Not done.
    Off = "off" | "false" | "no" | "0",
}

words! {
    /// Something that is done once with a GPU.
    CudaSwitch:
    /// Nothing.
    None = "none",
    /// Freed memory stays with the process.
    KeepMemory = "keep-memory",
    /// No events around each tensor's uses.
    NoEvents = "no-events",
    /// f32 products in TF32.
    Tf32 = "tf32",
    /// f16 and bf16 products summed in 16 bits.
    ShortSums = "short-sums",
    /// Kernels of our own where there are any.
    Fused = "fused",
    /// Weights go through pinned memory.
    Staging = "staging",
    /// Tokens are drawn on the GPU.
    Sampling = "sampling",
    /// The next pass is launched before the last one's tokens are read.
    Ahead = "ahead",
    /// Passes of one token a row are recorded once, as CUDA graphs.
    Graphs = "graphs",
    /// What cuDNN needs for a convolution is found out once a shape.
    Plans = "plans",
    /// All kernels are loaded before the first request.
    Preload = "preload",
    /// The warm-up runs at batches of several sizes.
    WarmUp = "warm-up",
}

/// Something that is only done when it is asked for: its flag needs no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission(pub bool);

impl Value for Permission {
    const BARE: Option<&'static str> = Some("on");

    fn parse(text: &str) -> Result<Self, String> {
        Switch::parse(text).map(|switch| Self(switch == Switch::On))
    }

    fn show(&self) -> String {
        if self.0 { "on" } else { "off" }.to_owned()
    }
}

words! {
    /// How buckets of an object store are addressed.
    S3Addressing:
    /// In front of the host at Amazon, in the path everywhere else.
    Auto = "auto",
    /// `https://host/bucket/key`.
    Path = "path",
    /// `https://bucket.host/key`.
    Virtual = "virtual",
}

words! {
    /// What may be done with the mirror of the hub.
    MirrorScope:
    /// Nothing.
    Off = "off",
    /// It is read.
    Shared = "shared",
    /// It is read, and what came from the hub is put there.
    Private = "private",
}

/// Which of several precisions of the same weights, as file names have it: `model.fp16.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variant {
    /// What the numeric type suggests.
    Auto,
    /// The one without a mark.
    Default,
    /// The one with this mark.
    Named(String),
}

impl Value for Variant {
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match text {
            "auto" => Ok(Self::Auto),
            "default" => Ok(Self::Default),
            name if !name.is_empty() && name.chars().all(plain) => Ok(Self::Named(name.to_owned())),
            _ => {
                Err("give auto, default, or the mark in the files' names, such as fp16".to_owned())
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto".to_owned(),
            Self::Default => "default".to_owned(),
            Self::Named(name) => name.clone(),
        }
    }
}

/// How many times larger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factor(pub f64);

impl Value for Factor {
    fn parse(text: &str) -> Result<Self, String> {
        let factor = text
            .parse()
            .ok()
            .filter(|factor: &f64| factor.is_finite() && *factor >= 1.0);
        factor
            .map(Self)
            .ok_or_else(|| "give a number of 1 or more, such as 3 or 1.5".to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// How strongly, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strength(pub f64);

impl Value for Strength {
    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok();
        number
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
            .map(Self)
            .ok_or_else(|| "give a number of 0 or more, such as 7.5".to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// How far answers are guessed ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speculate {
    /// Not at all.
    Off,
    /// By what stood before in the same text, so many tokens at most.
    Ngram(u8),
}

/// Tokens that are guessed ahead when nobody says, and at most.
const USUAL_GUESS: u8 = 8;
const MOST_GUESS: u8 = 64;

impl Speculate {
    /// Tokens at most; 0 is off.
    pub fn tokens(self) -> usize {
        match self {
            Self::Off => 0,
            Self::Ngram(tokens) => tokens.into(),
        }
    }
}

impl Value for Speculate {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || format!("give off, ngram or ngram:K with K from 1 to {MOST_GUESS}");
        match text.to_ascii_lowercase().split_once(':') {
            None if text.eq_ignore_ascii_case("off") => Ok(Self::Off),
            None if text.eq_ignore_ascii_case("ngram") => Ok(Self::Ngram(USUAL_GUESS)),
            Some(("ngram", tokens)) => match tokens.parse() {
                Ok(tokens) if (1..=MOST_GUESS).contains(&tokens) => Ok(Self::Ngram(tokens)),
                _ => Err(wanted()),
            },
            _ => Err(wanted()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Ngram(tokens) => format!("ngram:{tokens}"),
        }
    }
}

words! {
    /// What weights are quantised to while they are loaded.
    Quantize:
    /// 4 bits and a half, as llama.cpp's Q4_K_M.
    Q4K = "q4k" | "q4_k" | "q4_k_m",
    /// 8 bits and a half.
    Q8_0 = "q8_0" | "q8",
}

words! {
    /// What quantised weights are multiplied with on a CPU.
    Activations:
    /// The numbers as they are: exact.
    F32 = "f32" | "float32",
    /// Bytes with a scale to each 32 numbers: faster, and near.
    Int8 = "int8" | "q8",
}

/// Where tensors live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(pub String);

impl Value for Device {
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let index = lower
            .strip_prefix("cuda:")
            .map(|n| n.parse::<u16>().is_ok());
        match (lower.as_str(), index) {
            ("gpu", _) => Ok(Self("cuda".to_owned())),
            ("auto" | "cpu" | "cuda", _) | (_, Some(true)) => Ok(Self(lower)),
            _ => Err("give auto, cpu, cuda or cuda:N".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Which log lines are written: a level, or tracing's filter language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Value for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        let level = match text.to_ascii_lowercase().as_str() {
            "warning" => "warn".to_owned(), // Python's names, which platforms hand out
            "critical" | "fatal" => "error".to_owned(),
            // RunPod's SDK counts them: NOTSET, TRACE, DEBUG, INFO, WARN, ERROR.
            "notset" | "0" | "1" => "trace".to_owned(),
            "2" => "debug".to_owned(),
            "3" => "info".to_owned(),
            "4" => "warn".to_owned(),
            "5" => "error".to_owned(),
            word if !word.contains(['=', ',']) => word.to_owned(),
            _ => text.to_owned(),
        };
        let plain = ["error", "warn", "info", "debug", "trace", "off"].contains(&level.as_str());
        let filter = level.contains('=') && tracing_subscriber::EnvFilter::try_new(&level).is_ok();
        (plain || filter).then_some(Self(level)).ok_or_else(|| {
            "give error, warn, info, debug, trace or off, or a filter such as info,chandler=debug"
                .to_owned()
        })
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Shown as set, never as it is.
pub const MASK: &str = "********";

impl Value for SecretString {
    const PRIVATE: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        MASK.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_synonyms_and_name_their_choices() {
        assert_eq!(Dtype::parse("BFLOAT16"), Ok(Dtype::Bf16));
        assert_eq!(
            Dtype::parse("int8"),
            Err("give one of auto, f32, f16, bf16".to_owned())
        );
    }

    #[test]
    fn devices_are_checked() {
        assert_eq!(Device::parse("CUDA:1"), Ok(Device("cuda:1".to_owned())));
        assert!(Device::parse("cuda:x").is_err());
    }

    #[test]
    fn guessing_is_off_or_by_ngrams_of_a_length_that_makes_sense() {
        assert_eq!(Speculate::parse("off").unwrap().tokens(), 0);
        assert_eq!(Speculate::parse("NGRAM").unwrap().show(), "ngram:8");
        assert_eq!(Speculate::parse("ngram:4"), Ok(Speculate::Ngram(4)));
        for wrong in ["ngram:0", "ngram:65", "ngram:", "ngram:x", "draft", "off:3"] {
            assert!(Speculate::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn log_levels_take_pythons_names_and_filters() {
        assert_eq!(LogFilter::parse("WARNING").unwrap().0, "warn");
        assert_eq!(LogFilter::parse("NOTSET").unwrap().0, "trace");
        assert_eq!(LogFilter::parse("4").unwrap().0, "warn");
        assert_eq!(
            LogFilter::parse("info,chandler=debug").unwrap().0,
            "info,chandler=debug"
        );
        assert!(LogFilter::parse("loud").is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let keys = Vec::<SecretString>::parse("alpha,beta").unwrap();
        assert_eq!(keys.show(), "********,********");
        assert!(!format!("{keys:?}").contains("alpha"));
    }
}
