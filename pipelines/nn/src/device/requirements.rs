//! What a CUDA build asks of the machine: a driver that is new enough for its toolkit, and a GPU that its code runs on. Plain
//! comparisons of numbers, apart from the code that asks CUDA for them, so that they are tested without a GPU.

use std::fmt;

/// A CUDA version, as toolkits and drivers count them: 12.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 12 of 12.4.
    pub major: u32,
    /// 4 of 12.4.
    pub minor: u32,
}

impl Version {
    /// From CUDA's own number: 12040 is 12.4.
    pub const fn from_number(number: u32) -> Self {
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the build was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The toolkit that compiled the kernels.
    pub toolkit: Version,
    /// Compute capabilities that there is machine code for, ascending: 86 is 8.6. Empty when the build did not say.
    pub capabilities: Vec<u32>,
}

/// How the kernels come onto a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// As machine code that is in the build.
    Machine,
    /// As PTX, which the driver compiles at the first use: seconds of every cold start.
    Ptx,
    /// The build does not know what it has.
    Unknown,
}

impl Build {
    /// From the capabilities' list as the build script has it: `80,86,90`.
    pub fn new(toolkit: Version, capabilities: Option<&str>) -> Self {
        let numbers = capabilities.unwrap_or_default().split(',');
        let mut capabilities: Vec<u32> = numbers.filter_map(|n| n.trim().parse().ok()).collect();
        capabilities.sort_unstable();
        Self {
            toolkit,
            capabilities,
        }
    }

    /// The oldest driver for Linux that runs code of this toolkit: NVIDIA promises it within a major version.
    pub fn minimum_driver(&self) -> &'static str {
        match self.toolkit.major {
            ..12 => "450.80.02",
            12 => "525.60.13",
            _ => "580.65.06",
        }
    }

    /// The capabilities in words: `8.0, 8.6, 9.0`.
    pub fn capabilities_text(&self) -> String {
        let texts: Vec<String> = self.capabilities.iter().copied().map(dotted).collect();
        texts.join(", ")
    }

    /// Whether a driver runs this build at all; `supports` is the CUDA version that it says.
    ///
    /// # Errors
    /// One sentence with the remedy.
    pub fn check_driver(&self, supports: Version) -> Result<(), String> {
        if supports.major >= self.toolkit.major {
            return Ok(());
        }
        Err(format!(
            "the driver is too old: it supports CUDA {supports}, and this build of CUDA {} needs driver {} or newer: take a host \
             that has it, or an image of CUDA {}",
            self.toolkit,
            self.minimum_driver(),
            supports.major
        ))
    }

    /// Whether this build has code for a GPU, and of which kind.
    ///
    /// # Errors
    /// One sentence with the remedy.
    pub fn check_gpu(&self, gpu: &Gpu) -> Result<Code, String> {
        let Some(newest) = self.capabilities.last() else {
            return Ok(Code::Unknown);
        };
        // Machine code runs on its own generation from its own capability upwards.
        let runs = |code: &&u32| **code / 10 == gpu.capability / 10 && **code <= gpu.capability;
        if self.capabilities.iter().any(|code| runs(&code)) {
            return Ok(Code::Machine);
        }
        let (what, has) = (&gpu.name, self.capabilities_text());
        if gpu.capability < *newest {
            // candle's kernels use matrix instructions that came with 7.0, and CUDA 13 begins at 7.5.
            let oldest = if self.toolkit.major < 13 { 70 } else { 75 };
            let remedy = match gpu.capability < oldest {
                true => "take a newer GPU".to_owned(),
                false => format!(
                    "take another GPU, or build with --capabilities {}",
                    gpu.capability
                ),
            };
            return Err(format!(
                "{what} has compute capability {}, and this build has code for {has} only: {remedy}",
                dotted(gpu.capability)
            ));
        }
        if gpu.driver < self.toolkit {
            return Err(format!(
                "{what} is newer than this build's machine code ({has}), and its driver (CUDA {}) is too old to compile the PTX of \
                 CUDA {}: take a host with a newer driver, or build with --capabilities {}",
                gpu.driver, self.toolkit, gpu.capability
            ));
        }
        Ok(Code::Ptx)
    }
}

/// What was asked of a GPU and its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its compute capability: 86 is 8.6.
    pub capability: u32,
    /// The CUDA version that its driver supports.
    pub driver: Version,
}

fn dotted(capability: u32) -> String {
    format!("{}.{}", capability / 10, capability % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> Version {
        Version::from_number(number)
    }

    fn build(toolkit: u32, capabilities: &str) -> Build {
        Build::new(version(toolkit), Some(capabilities))
    }

    fn gpu(capability: u32, driver: u32) -> Gpu {
        Gpu {
            name: "a GPU".to_owned(),
            capability,
            driver: version(driver),
        }
    }

    #[test]
    fn a_driver_of_the_same_major_version_will_do() {
        let build = build(12040, "80,90");
        for driver in [12000, 12020, 12040, 12090, 13000] {
            assert_eq!(build.check_driver(version(driver)), Ok(()));
        }
        let error = build.check_driver(version(11080)).unwrap_err();
        assert!(error.contains("supports CUDA 11.8"), "{error}");
        assert!(error.contains("needs driver 525.60.13 or newer"), "{error}");
    }

    #[test]
    fn machine_code_serves_its_generation_upwards() {
        let build = build(12040, "75, 80,90");
        for capability in [75, 80, 86, 89, 90] {
            let code = build.check_gpu(&gpu(capability, 12000));
            assert_eq!(code, Ok(Code::Machine), "{capability}");
        }
    }

    #[test]
    fn what_comes_after_is_compiled_by_a_driver_that_knows_the_toolkit() {
        let build = build(12040, "80,90");
        assert_eq!(build.check_gpu(&gpu(120, 12080)), Ok(Code::Ptx));
        assert_eq!(build.check_gpu(&gpu(100, 13000)), Ok(Code::Ptx));
        let error = build.check_gpu(&gpu(100, 12030)).unwrap_err();
        assert!(error.contains("--capabilities 100"), "{error}");
    }

    #[test]
    fn a_gpu_without_code_is_told_which_build_has_it() {
        let error = build(12040, "80,90")
            .check_gpu(&gpu(75, 12040))
            .unwrap_err();
        assert!(
            error.contains("7.5") && error.contains("8.0, 9.0"),
            "{error}"
        );
        assert!(error.contains("--capabilities 75"), "{error}");
        let error = build(12040, "86,90")
            .check_gpu(&gpu(80, 12040))
            .unwrap_err();
        assert!(error.contains("8.0"), "{error}");
        let error = build(13000, "75,80")
            .check_gpu(&gpu(61, 13000))
            .unwrap_err();
        assert!(error.contains("a newer GPU"), "{error}");
    }

    #[test]
    fn a_build_that_does_not_know_lets_the_driver_decide() {
        let build = Build::new(version(12040), None);
        assert_eq!(build.check_gpu(&gpu(61, 12000)), Ok(Code::Unknown));
    }
}
