//! One hardware card: a GPU that platforms lend, by the names that they have for it.

use serde::{Deserialize, Serialize};

/// A hardware card. It has no price: prices change by the hour, and are read from the platform where one is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Its name here.
    pub id: String,
    /// Further names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What its maker calls it.
    pub name: String,
    /// Memory as it is sold, in GB. What a process can have of it is less.
    pub memory_gb: u32,
    /// The maker's name of the generation.
    pub architecture: Architecture,
    /// CUDA's compute capability.
    pub capability: String,
    /// Where it stands among all cards by what an hour of it costs on the platforms that lend it: 1 is the cheapest. Cards that
    /// cost about as much stand together.
    pub cost_order: u32,
    /// RunPod's id of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runpod: Option<String>,
    /// The pool that RunPod's serverless endpoints ask for it by. The platform's own catalog has the last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runpod_pool: Option<String>,
    /// What Vertex AI asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertex: Option<VertexMachine>,
    /// Cloud Run's accelerator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudrun: Option<String>,
    /// The name in Vast.ai's search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vast: Option<String>,
    /// What a node that has one carries as `nvidia.com/gpu.product`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Anything a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How Vertex AI names a card: never alone, always with a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VertexMachine {
    /// `acceleratorType`
    pub accelerator: String,
    /// The smallest `machineType` that has one.
    pub machine: String,
}

/// Where an endpoint can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// RunPod's serverless endpoints.
    Runpod,
    /// Vertex AI.
    Vertex,
    /// Cloud Run.
    Cloudrun,
    /// A Kubernetes cluster.
    Kubernetes,
    /// Vast.ai.
    Vast,
    /// The machine that somebody sits at, with docker or without.
    Docker,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Runpod,
        Self::Vertex,
        Self::Cloudrun,
        Self::Kubernetes,
        Self::Vast,
        Self::Docker,
    ];

    /// The word as commands take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Runpod => "runpod",
            Self::Vertex => "vertex",
            Self::Cloudrun => "cloudrun",
            Self::Kubernetes => "kubernetes",
            Self::Vast => "vast",
            Self::Docker => "docker",
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |platform: &Self| platform.as_str().eq_ignore_ascii_case(text);
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(known);
        found.ok_or_else(|| format!("platform `{text}` is not known: use {}", names()))
    }
}

/// Generations, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// No bf16.
    Turing,
    /// bf16 from here on.
    Ampere,
    /// 8-bit floats from here on.
    Ada,
    /// As Ada, with more memory bandwidth.
    Hopper,
    /// The latest.
    Blackwell,
}

impl Architecture {
    /// The word as the cards write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turing => "turing",
            Self::Ampere => "ampere",
            Self::Ada => "ada",
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
        }
    }

    /// CUDA's compute capabilities that a generation's cards have.
    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::Turing => &["7.5"],
            Self::Ampere => &["8.0", "8.6"],
            Self::Ada => &["8.9"],
            Self::Hopper => &["9.0"],
            Self::Blackwell => &["10.0", "12.0"],
        }
    }
}

impl Hardware {
    /// Every name it answers to, its id first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let platforms = [&self.runpod, &self.cloudrun, &self.vast];
        let vertex = self
            .vertex
            .as_ref()
            .map(|vertex| vertex.accelerator.as_str());
        std::iter::once(self.id.as_str())
            .chain(self.aliases.iter().map(String::as_str))
            .chain(std::iter::once(self.name.as_str()))
            .chain(platforms.into_iter().flatten().map(String::as_str))
            .chain(vertex)
    }

    /// Whether a platform lends it. A cluster and a machine of one's own have whatever was put into them.
    pub fn lent_by(&self, platform: Platform) -> bool {
        match platform {
            Platform::Runpod => self.runpod.is_some(),
            Platform::Vertex => self.vertex.is_some(),
            Platform::Cloudrun => self.cloudrun.is_some(),
            Platform::Vast => self.vast.is_some(),
            Platform::Kubernetes | Platform::Docker => true,
        }
    }

    /// The platforms that lend it.
    pub fn platforms(&self) -> Vec<&'static str> {
        let lenders = [
            Platform::Runpod,
            Platform::Vertex,
            Platform::Cloudrun,
            Platform::Vast,
        ];
        let lends = lenders.into_iter().filter(|lender| self.lent_by(*lender));
        lends.map(Platform::as_str).collect()
    }

    /// Whether it computes in bf16.
    pub fn bf16(&self) -> bool {
        self.architecture >= Architecture::Ampere
    }

    /// Memory that counts on it, in bytes: what is sold as so many GB is taken as so many times 10^9, which is less than its driver
    /// shows (24 GB of an L4 are 22.5 GiB there, and 22.4 GiB here), and leaves what the driver keeps.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_gb) * 1_000_000_000
    }

    /// Whether a lower-case text stands in what describes it.
    pub fn mentions(&self, wanted: &str) -> bool {
        let further = [
            Some(self.architecture.as_str()),
            self.runpod_pool.as_deref(),
            self.kubernetes.as_deref(),
        ];
        self.names()
            .chain(further.into_iter().flatten())
            .chain(self.platforms())
            .any(|text| text.to_lowercase().contains(wanted))
    }

    /// Checks that what it says of itself agrees.
    ///
    /// # Errors
    /// What does not agree.
    pub fn check(&self) -> Result<(), String> {
        let capabilities = self.architecture.capabilities();
        if !capabilities.contains(&self.capability.as_str()) {
            return Err(format!(
                "capability is {}; {} has {}",
                self.capability,
                self.architecture.as_str(),
                capabilities.join(" and ")
            ));
        }
        match (self.memory_gb, self.cost_order) {
            (0, _) => Err("memory_gb is 0".to_owned()),
            (_, 0) => Err("cost_order is 0; the cheapest is 1".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Hardware {
        let text = "id = \"x\"\nname = \"X\"\nmemory_gb = 24\narchitecture = \"ada\"\ncapability = \"8.9\"\ncost_order = 3\ncloudrun = \"nvidia-x\"";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_card_whose_words_disagree_is_refused() {
        assert_eq!(card().check(), Ok(()));
        let hopper = Hardware {
            architecture: Architecture::Hopper,
            ..card()
        };
        assert_eq!(
            hopper.check().unwrap_err(),
            "capability is 8.9; hopper has 9.0"
        );
        let free = Hardware {
            cost_order: 0,
            ..card()
        };
        assert!(free.check().unwrap_err().contains("the cheapest is 1"));
    }

    #[test]
    fn a_platform_lends_what_it_has_a_name_for_and_a_cluster_has_anything() {
        assert_eq!(card().platforms(), ["cloudrun"]);
        assert!(card().lent_by(Platform::Kubernetes) && !card().lent_by(Platform::Runpod));
        assert_eq!("RunPod".parse::<Platform>(), Ok(Platform::Runpod));
        let error = "aws".parse::<Platform>().unwrap_err();
        assert!(error.contains("runpod, vertex, cloudrun"), "{error}");
    }
}
