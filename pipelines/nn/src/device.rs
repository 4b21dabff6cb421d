//! Which device computes: parsed from what the user wrote, decided for `auto`, and described for logs.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use candle_core::{Device, DeviceLocation};
use chandler_core::Footprint;
use serde::Serialize;

use crate::error::{NnError, Result};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "device/no_cuda.rs"]
mod cuda;
mod dtype;
pub mod failure;
pub mod requirements;
pub mod trouble;
mod tuning;

#[cfg(feature = "flash-attn")]
pub(crate) use cuda::compute_capability;
pub use dtype::DTypeChoice;
use requirements::Build;
pub use tuning::CudaTuning;

/// The device that the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device in a build with CUDA, the CPU in one without.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device, and an error when it cannot be had.
    Cuda {
        /// Its number among those visible, from 0.
        ordinal: usize,
    },
}

impl DeviceChoice {
    /// Opens the device. A build with CUDA takes the first GPU for `auto`, and never the CPU in its place.
    ///
    /// # Errors
    /// [`NnError::Device`] when a CUDA device is meant, and this build has no CUDA or the device cannot be used: with the reason
    /// and what would do.
    pub fn open(&self) -> Result<Device> {
        DeviceOptions::from(*self).open()
    }
}

/// A choice of device with all that opening it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Which.
    pub choice: DeviceChoice,
    /// Whether `auto` may be the CPU in a build with CUDA that finds no usable GPU.
    pub allow_cpu: bool,
    /// What is set up on a GPU.
    pub tuning: CudaTuning,
    /// Candle tensors even on the CPU: what other devices compute, and how their memory is used, tried here.
    pub plain: bool,
}

impl From<DeviceChoice> for DeviceOptions {
    fn from(choice: DeviceChoice) -> Self {
        Self {
            choice,
            allow_cpu: false,
            tuning: CudaTuning::default(),
            plain: false,
        }
    }
}

impl DeviceOptions {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`DeviceChoice::open`]; a refused `auto` is also told that the CPU can be allowed.
    pub fn open(&self) -> Result<Device> {
        match self.choice {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda { ordinal } => cuda::open(ordinal, self.tuning),
            DeviceChoice::Auto if cuda_build().is_none() => Ok(Device::Cpu),
            DeviceChoice::Auto => match (cuda::open(0, self.tuning), self.allow_cpu) {
                (Err(error), true) => {
                    tracing::warn!(%error, "no usable GPU: computing on the CPU, as --allow-cpu has it");
                    Ok(Device::Cpu)
                }
                (Err(error), false) => Err(NnError::Device(format!(
                    "no usable GPU: {error}; to compute on the CPU all the same, give --allow-cpu"
                ))),
                (opened, _) => opened,
            },
        }
    }
}

/// What this build was made with for NVIDIA's GPUs; nothing when it has no CUDA.
pub fn cuda_build() -> Option<Build> {
    cuda::build()
}

/// Bytes of a GPU's memory that are free, and all of it.
pub fn memory(device: &Device) -> Option<(u64, u64)> {
    cuda::memory(device)
}

/// After a failure: whether the device still works, with the memory given back that nothing uses.
///
/// # Errors
/// What the device says when it is lost.
pub fn recover(device: &Device) -> Result<()> {
    // Something given back may have failed, which is told to whoever asks next, in the place of waiting.
    if let Some(error) = cuda::left_behind(device) {
        tracing::warn!(%error, "an error of the GPU that nobody was told");
    }
    device.synchronize()?;
    cuda::give_back(device);
    Ok(())
}

impl FromStr for DeviceChoice {
    type Err = NnError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(NnError::Device(format!(
                "device `{text}` {why}: use auto, cpu, cuda or cuda:N"
            )))
        };
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda { ordinal: 0 }),
            "metal" | "mps" => wrong("is not supported"),
            other => match other.strip_prefix("cuda:") {
                // Digits only: `parse` would take `+1` too.
                Some(ordinal) if ordinal.bytes().all(|byte| byte.is_ascii_digit()) => {
                    ordinal.parse().map_or_else(
                        |_| wrong("has no device number"),
                        |ordinal| Ok(Self::Cuda { ordinal }),
                    )
                }
                Some(_) => wrong("has no device number"),
                None => wrong("is not known"),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda { ordinal } => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// What a device is, for logs, health and benchmarks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// `cpu`, `cuda:N` or `metal:N`.
    pub kind: String,
    /// The processor's or the card's name.
    pub name: String,
    /// Threads that compute; of the CPU only.
    pub threads: Option<usize>,
    /// The widest vector instructions found, as in `avx512-vnni`; of the CPU only.
    pub simd: Option<&'static str>,
    /// The card's memory in bytes, used or not, where it could be asked.
    pub memory_bytes: Option<u64>,
    /// The card's compute capability (major, minor), where it could be asked.
    pub compute_capability: Option<(i32, i32)>,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.kind, self.name)?;
        if let Some(threads) = self.threads {
            write!(f, ", {threads} threads")?;
        }
        if let Some(simd) = self.simd {
            write!(f, ", {simd}")?;
        }
        if let Some(bytes) = self.memory_bytes {
            write!(f, ", {} MiB", bytes >> 20)?;
        }
        if let Some((major, minor)) = self.compute_capability {
            write!(f, ", compute capability {major}.{minor}")?;
        }
        f.write_str(")")
    }
}

/// Asks the system what a device is. Never fails: what cannot be found out is left out.
pub fn describe(device: &Device) -> DeviceInfo {
    match device.location() {
        DeviceLocation::Cpu => DeviceInfo {
            kind: "cpu".to_owned(),
            name: cpu_name(),
            threads: Some(rayon::current_num_threads()),
            simd: Some(simd()),
            memory_bytes: None,
            compute_capability: None,
        },
        DeviceLocation::Cuda { gpu_id } => DeviceInfo {
            kind: format!("cuda:{gpu_id}"),
            name: cuda::name(device).unwrap_or_else(|| format!("CUDA device {gpu_id}")),
            threads: None,
            simd: None,
            memory_bytes: memory(device).map(|(_, total)| total),
            compute_capability: cuda::compute_capability(device),
        },
        DeviceLocation::Metal { gpu_id } => DeviceInfo {
            kind: format!("metal:{gpu_id}"),
            name: format!("Metal device {gpu_id}"),
            threads: None,
            simd: None,
            memory_bytes: None,
            compute_capability: None,
        },
    }
}

fn cpu_name() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| model_name(&text))
        .unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// The first processor's name in the text of /proc/cpuinfo; ARM kernels do not give one.
fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The widest vector instructions that the machine has, of those that the kernels make a difference between.
#[cfg(target_arch = "x86_64")]
fn simd() -> &'static str {
    if is_x86_feature_detected!("avx512f") {
        if is_x86_feature_detected!("avx512bf16") {
            "avx512-bf16"
        } else if is_x86_feature_detected!("avx512vnni") {
            "avx512-vnni"
        } else {
            "avx512"
        }
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        "avx2-fma"
    } else if is_x86_feature_detected!("avx") {
        "avx"
    } else {
        "sse2"
    }
}

#[cfg(target_arch = "aarch64")]
fn simd() -> &'static str {
    if std::arch::is_aarch64_feature_detected!("bf16") {
        "neon-bf16"
    } else if std::arch::is_aarch64_feature_detected!("dotprod") {
        "neon-dotprod"
    } else {
        "neon"
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn simd() -> &'static str {
    "none found"
}

/// Sets how many threads the CPU's arithmetic uses, for the whole process; before the first of it runs.
///
/// # Errors
/// [`NnError::Device`] when arithmetic has begun, or the threads cannot be had.
pub fn set_threads(threads: usize) -> Result<()> {
    if !crate::kernels::set_threads(threads) {
        return Err(NnError::Device(format!(
            "{threads} threads: their number is settled for this process"
        )));
    }
    static RAYON: OnceLock<()> = OnceLock::new();
    if RAYON.get().is_some() {
        return Ok(()); // the same number again: another model in the same process
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|error| NnError::Device(format!("{threads} threads: {error}")))?;
    let _ = RAYON.set(());
    Ok(())
}

/// Threads that candle's own pools will have, which follow nothing but its environment variables and the physical cores of the
/// host, whatever a container is allowed.
pub fn library_threads() -> usize {
    candle_core::utils::get_num_threads()
}

/// What a device is called: `cpu`, `cuda:0`, …
pub fn name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Bytes that a model holds on a device, as the engine counts them.
pub fn footprint(device: &Device, bytes: u64) -> Footprint {
    match device.is_cpu() {
        true => Footprint {
            device_bytes: 0,
            host_bytes: bytes,
        },
        false => Footprint {
            device_bytes: bytes,
            host_bytes: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_parsed_as_it_is_shown() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("CUDA", DeviceChoice::Cuda { ordinal: 0 }),
            ("cuda:3", DeviceChoice::Cuda { ordinal: 3 }),
        ] {
            let parsed: DeviceChoice = text.parse().unwrap();
            assert_eq!(parsed, choice);
            assert_eq!(parsed.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
    }

    #[test]
    fn a_wrong_device_is_told_what_is_accepted() {
        for text in [
            "",
            "gpu",
            "cuda:",
            "cuda:x",
            "cuda:+1",
            "cuda:-1",
            "cuda:99999999999999999999",
        ] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("use auto, cpu, cuda or cuda:N"), "{error}");
        }
        let error = "metal".parse::<DeviceChoice>().unwrap_err().to_string();
        assert!(error.contains("`metal` is not supported"), "{error}");
    }

    #[test]
    fn the_cpu_always_opens() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_auto_is_the_cpu_and_cuda_says_what_to_do() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let error = DeviceChoice::Cuda { ordinal: 0 }.open().unwrap_err();
        assert_eq!(
            error.to_string(),
            "this build has no CUDA support: build with --features cuda, or use --device cpu"
        );
    }

    #[test]
    fn the_cpu_is_described() {
        let info = describe(&Device::Cpu);
        assert_eq!(info.kind, "cpu");
        assert!(!info.name.is_empty());
        assert!(info.threads.is_some_and(|threads| threads > 0));
        assert!(info.to_string().starts_with("cpu ("), "{info}");
    }

    #[test]
    fn a_processor_is_named_as_the_kernel_names_it() {
        let text = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R)\n";
        assert_eq!(model_name(text).unwrap(), "Intel(R) Xeon(R)");
        assert_eq!(model_name("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }
}
