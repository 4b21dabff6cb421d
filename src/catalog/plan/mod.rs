//! What a model needs, and where it will run: memory line by line, from the model's own headers or its card, and the cards that
//! it fits on in order of cost. Pure functions of what was read; nothing here asks a network or a disk.
//!
//! `measure` reads headers (`safetensors`, `gguf`, `single`) and settings (`facts`), or `from_card` takes a card's word; `weights`
//! and `work` reckon bytes of it, `account` makes the table, `fit` looks at hardware.

mod account;
mod asked;
mod error;
mod facts;
mod fit;
mod from_card;
mod gguf;
mod line;
mod measure;
mod safetensors;
mod single;
mod tensor;
#[cfg(test)]
mod tests;
mod weights;
mod work;

pub use asked::{Asked, Dtype, Scheme};
pub use error::PlanError;
pub use facts::Facts;
pub use fit::{Candidate, Choice, Fit, Refused};
pub use from_card::from_card;
pub use line::{Line, gib};
pub use measure::{Files, Measured, Part, measure};
pub use tensor::{Stored, Tensor};

use std::collections::BTreeMap;

use serde::Serialize;

use self::account::Account;
use self::fit::Wish;
use self::line::sum;
use super::{Hardware, Platform};

/// The CUDA version that a host's driver must support for the image (CUDA 12.4, which NVIDIA lets run on any driver of CUDA 12), and the
/// driver that has it; as pipelines/nn device/requirements.rs has them.
const CUDA: &str = "12.0";
const DRIVER: &str = "525.60.13";

/// What has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Memory of a GPU with bf16; 0 where it computes on the CPU.
    pub device_bytes: u64,
    /// Memory of the host.
    pub host_bytes: u64,
    /// Room for files, without the image.
    pub disk_bytes: u64,
    /// The CUDA version that the host's driver supports at least; none where it computes on the CPU.
    pub minimum_cuda: Option<String>,
    /// Whether nothing but bf16 will do.
    pub bf16: bool,
}

/// A plan.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What the model is called.
    pub model: String,
    /// Where the numbers come from.
    pub basis: String,
    /// In what it computes on a GPU with bf16, or on the CPU.
    pub dtype: &'static str,
    /// What has to be there.
    pub needs: Needs,
    /// The GPU's memory, line by line; empty where it computes on the CPU.
    pub device: Vec<Line>,
    /// The host's memory.
    pub host: Vec<Line>,
    /// The disk.
    pub disk: Vec<Line>,
    /// Settings of the worker without which it takes more or less.
    pub settings: BTreeMap<&'static str, String>,
    /// How long a load takes, as far as that is known.
    pub load_time: String,
    /// The oldest driver for Linux, where there is a GPU.
    pub minimum_driver: Option<&'static str>,
    /// What a person should know besides.
    pub notes: Vec<String>,
    /// Where it will run, by platform; empty where it computes on the CPU.
    pub choices: Vec<Choice>,
    #[serde(skip)]
    cards: Vec<Fit>,
}

impl Plan {
    /// Plans a model on hardware.
    ///
    /// # Errors
    /// [`PlanError::Asked`] for what does not go together.
    pub fn new(
        model: &str,
        measured: &Measured,
        asked: &Asked,
        hardware: &[Hardware],
    ) -> Result<Self, PlanError> {
        let account = Account::new(measured, asked, true)?;
        let without = Account::new(measured, asked, false)?;
        let gpu = !account.device.is_empty();
        let wish = Wish {
            device: (sum(&account.device), sum(&without.device)),
            movable: account.movable,
            bf16: asked.dtype == Dtype::Bf16,
        };
        let mut cards: Vec<Fit> = match gpu {
            true => hardware.iter().map(|card| Fit::new(card, &wish)).collect(),
            false => Vec::new(),
        };
        cards.sort_by(|a, b| order(&a.hardware).cmp(&order(&b.hardware)));
        let choices = Platform::ALL.map(|platform| Choice::new(platform, &cards));
        Ok(Self {
            model: model.to_owned(),
            basis: measured.basis.clone(),
            dtype: account.dtype,
            needs: Needs {
                device_bytes: wish.device.0,
                host_bytes: sum(&account.host),
                disk_bytes: sum(&account.disk),
                minimum_cuda: gpu.then(|| CUDA.to_owned()),
                bf16: gpu && wish.bf16,
            },
            load_time: account::load_time(&account),
            minimum_driver: gpu.then_some(DRIVER),
            notes: notes(measured, &wish),
            choices: if gpu { choices.into() } else { Vec::new() },
            device: account.device,
            host: account.host,
            disk: account.disk,
            settings: account.settings.into_iter().collect(),
            cards,
        })
    }

    /// The cards that it fits on and that a platform lends, in order of cost; none for a platform that is not known, and none
    /// where it computes on the CPU.
    pub fn candidates(&self, platform: &str) -> Vec<&Hardware> {
        let Ok(platform) = platform.parse::<Platform>() else {
            return Vec::new();
        };
        let fits = self.cards.iter().filter(|fit| fit.will_do(platform));
        fits.map(|fit| &fit.hardware).collect()
    }
}

/// The cheapest first, and of those the one with the least memory.
fn order(card: &Hardware) -> (u32, u32, &str) {
    (card.cost_order, card.memory_gb, &card.id)
}

fn notes(measured: &Measured, wish: &Wish) -> Vec<String> {
    let mut notes = Vec::new();
    let (with, without) = wish.device;
    if with != without && !wish.bf16 {
        notes.push(format!(
            "a GPU without bf16 (a T4) computes in another type, and needs {}",
            gib(without)
        ));
    }
    if with > 0 {
        notes.push("memory of a card counts as so many times 10^9 bytes, which is less than its driver shows".to_owned());
        notes.push("the image is not in the disk's sum: the CUDA image was never built here, and its size is unknown".to_owned());
        notes.push("on Cloud Run files lie in memory unless a volume holds them: add the disk's sum to the host's there".to_owned());
    }
    if matches!(measured.facts, Facts::Picture(_)) {
        notes.push(
            "a safety checker, adapters and ControlNets come on top where they are loaded"
                .to_owned(),
        );
    }
    notes
}
