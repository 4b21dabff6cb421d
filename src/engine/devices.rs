//! Which devices this build can compute on, asked of the code that would open them. For those who want to know without loading
//! a model; the seam between `doctor` and the numeric crates.

/// Whether this build has CUDA.
pub const BUILT: bool = cfg!(all(feature = "cuda", feature = "models"));

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Devices {
    /// This build computes on the CPU only.
    CpuOnly,
    /// The first GPU cannot be opened, and why.
    Unusable(String),
    /// GPUs that can be opened, in their order.
    Gpus(Vec<Gpu>),
}

/// A GPU that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// Its compute capability.
    pub capability: Option<(i32, i32)>,
}

/// Says that there are none to look for.
#[cfg(not(all(feature = "cuda", feature = "models")))]
pub fn look() -> Devices {
    Devices::CpuOnly
}

/// Opens each GPU in turn and asks it what it is.
#[cfg(all(feature = "cuda", feature = "models"))]
pub fn look() -> Devices {
    use chandler_nn::device::{CudaTuning, DeviceChoice, DeviceOptions, describe};

    /// More than any machine has; a driver that opens every number must not keep us here.
    const MOST: usize = 64;
    let mut gpus = Vec::new();
    for ordinal in 0..MOST {
        let options = DeviceOptions {
            choice: DeviceChoice::Cuda { ordinal },
            allow_cpu: false,
            tuning: CudaTuning::NONE, // nothing is to be computed
            plain: false,
        };
        match options.open() {
            Ok(device) => {
                let info = describe(&device);
                gpus.push(Gpu {
                    name: info.name,
                    memory: info.memory_bytes,
                    capability: info.compute_capability,
                });
            }
            Err(error) if gpus.is_empty() => return Devices::Unusable(error.to_string()),
            // The number after the last one.
            Err(_) => break,
        }
    }
    Devices::Gpus(gpus)
}
