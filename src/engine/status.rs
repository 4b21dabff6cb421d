//! What state a worker is in, from the first instant to the last: one enum, so that no two flags can disagree.

use std::fmt;

/// The state of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Not ready yet.
    Loading(Loading),
    /// A request would be served.
    Ready,
    /// Finishing what runs; nothing new is taken.
    Draining,
    /// Ended as asked.
    Stopped,
    /// Ended by a failure that concerns every request: the model did not load or the device is gone.
    Failed(String),
}

/// How far loading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loading {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of weights that are in memory.
    pub done_bytes: u64,
    /// Bytes of weights in all; 0 while unknown.
    pub total_bytes: u64,
    /// What comes over the network, where something does.
    pub download: Download,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Download {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub total_bytes: u64,
    /// Of these, here.
    pub received_bytes: u64,
    /// Of these, checked.
    pub verified_bytes: u64,
}

/// The stages of a cold start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The thread has started.
    Starting,
    /// Which files there are, and which of them are wanted and not here.
    Resolving,
    /// Another worker fetches them.
    Waiting,
    /// They come over the network.
    Downloading,
    /// The last of them are checked and put in their places.
    Verifying,
    /// Weights are coming into memory.
    ReadingWeights,
    /// Matrices are being quantised.
    Quantizing,
    /// Layers are being put together.
    BuildingModel,
    /// The first pass runs.
    WarmingUp,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Resolving => "resolving the model",
            Self::Waiting => "waiting for another worker's download",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::ReadingWeights => "reading weights",
            Self::Quantizing => "quantising weights",
            Self::BuildingModel => "building the model",
            Self::WarmingUp => "warming up",
        })
    }
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Resolving,
        Self::Waiting,
        Self::Downloading,
        Self::Verifying,
        Self::ReadingWeights,
        Self::Quantizing,
        Self::BuildingModel,
        Self::WarmingUp,
    ];

    /// Its name for programs; what people read is its `Display`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Resolving => "resolving",
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::ReadingWeights => "reading_weights",
            Self::Quantizing => "quantizing",
            Self::BuildingModel => "building_model",
            Self::WarmingUp => "warming_up",
        }
    }
}

impl Loading {
    /// The first instant.
    pub const STARTING: Self = Self {
        stage: Stage::Starting,
        done_bytes: 0,
        total_bytes: 0,
        download: Download {
            files: 0,
            total_bytes: 0,
            received_bytes: 0,
            verified_bytes: 0,
        },
    };
}

impl Status {
    /// Whether a request could be served, now or after waiting.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed(_))
    }
}
