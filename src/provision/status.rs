//! How an endpoint is, in words that are the same for every platform.

use std::fmt;

use serde::Serialize;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing of this name exists.
    Absent,
    /// The platform is still making it.
    Creating,
    /// It exists, and no machine has been found for it.
    NoCapacity,
    /// A machine has it, and the model is not loaded yet.
    Starting,
    /// A worker would serve a prediction.
    Serving,
    /// No worker runs, and a request would start one.
    Asleep,
    /// It will not serve without a change.
    Failed,
    /// It is being taken down.
    Deleting,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Creating => "creating",
            Self::NoCapacity => "waiting for a machine",
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Asleep => "asleep (scaled to zero)",
            Self::Failed => "failed",
            Self::Deleting => "being deleted",
        })
    }
}

/// Workers, as the platform counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Workers {
    /// Would serve a request.
    pub ready: u32,
    /// Load their model.
    pub starting: u32,
    /// Wait for a machine.
    pub waiting: u32,
    /// Failed their health checks or ended.
    pub failed: u32,
}

/// What an hour costs, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Price {
    /// US dollars for one worker's hour.
    pub usd_per_hour: f64,
    /// Where the figure was read, with the date of a price list that is not live.
    pub source: String,
}

impl Price {
    /// Of this machine, which is paid for in other ways.
    pub fn of_this_machine() -> Self {
        Self {
            usd_per_hour: 0.0,
            source: "it is this machine".to_owned(),
        }
    }
}

/// As people read it.
impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "${:.4} per worker and hour ({})",
            self.usd_per_hour, self.source
        )
    }
}

/// How an endpoint is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// How far it is.
    pub phase: Phase,
    /// What the platform says about it, where it says anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its workers.
    pub workers: Workers,
    /// The hardware that it really got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Fewest and most workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<(u32, u32)>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

impl Status {
    /// One of which nothing else is known.
    pub fn of(phase: Phase) -> Self {
        Self {
            phase,
            reason: None,
            workers: Workers::default(),
            hardware: None,
            scale: None,
            price: None,
        }
    }

    /// With what the platform says.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}
