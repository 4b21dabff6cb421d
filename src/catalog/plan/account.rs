//! The table: what a model takes of a device's memory, of the host's and of the disk, line by line.

use super::PlanError;
use super::asked::Asked;
use super::facts::Facts;
use super::line::{Line, gib, sum};
use super::measure::{Measured, Part};
use super::weights::{self, Placed};
use super::work;

/// What the process takes besides: measured of this program's release build for x86-64 Linux with the demo model, its context filled
/// (`VmHWM` of /proc, 33.3 MiB, on 2026-11-22), less the plan's other lines for it.
const PROCESS: u64 = 26 << 20;
/// What CUDA keeps for the process: no GPU was at hand to measure it with these kernels.
const CONTEXT: u64 = 600 << 20;
/// What its libraries take of the host's memory.
const LIBRARIES: u64 = 512 << 20;
/// Shares of what is above them.
const FRAGMENTS: u64 = 5;
const SPARE_DISK: u64 = 10;

/// What a model takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Account {
    pub device: Vec<Line>,
    pub host: Vec<Line>,
    pub disk: Vec<Line>,
    /// Settings of the worker without which it is not so.
    pub settings: Vec<(&'static str, String)>,
    /// Of the device's, what would stay in the host's memory if it had to: T5 reads a prompt once.
    pub movable: u64,
    /// In what is computed.
    pub dtype: &'static str,
}

impl Account {
    /// Reckons it, for a GPU with bf16 or without.
    ///
    /// # Errors
    /// [`PlanError::Asked`] for what does not go together.
    pub(super) fn new(measured: &Measured, asked: &Asked, bf16: bool) -> Result<Self, PlanError> {
        let placed = Placed::new(measured, asked, bf16);
        let mut account = Self {
            dtype: placed.dtype.as_str(),
            ..Self::default()
        };
        let mut lines = Vec::new();
        for part in &measured.parts {
            let held = weights::held((part, measured), asked, placed)?;
            if is_t5(part) {
                account.movable += held.bytes;
            }
            lines.push(Line::new(title(part), held.bytes, held.how));
        }
        let held = sum(&lines);
        let work = work::work(&measured.facts, asked, placed)?;
        account.settings = work.settings;
        lines.extend(work.lines);
        account.host.push(Line::new(
            "the process",
            PROCESS,
            "measured: peak of the release build with the demo model, less the other lines",
        ));
        match placed.gpu && measured.facts != Facts::Mock {
            true => {
                lines.push(Line::new(
                    "CUDA's context",
                    CONTEXT,
                    "assumption: 600 MiB; not measured here",
                ));
                lines.push(Line::share(
                    "margin",
                    &lines,
                    FRAGMENTS,
                    ", for fragmentation",
                ));
                account.device = lines;
                account.host.push(Line::new(
                    "CUDA's libraries",
                    LIBRARIES,
                    "assumption: 512 MiB; not measured here",
                ));
                account.host.push(reading(measured));
            }
            false => account.host.extend(lines),
        }
        account.disk = disk(measured, asked, held);
        Ok(account)
    }
}

/// A part's name for the table.
fn title(part: &Part) -> String {
    match part.name.as_str() {
        "" => "weights".to_owned(),
        name => format!("weights of {name}"),
    }
}

/// Whether a part is a T5: where the device has no room for it beside the others the pipeline leaves it on the host.
fn is_t5(part: &Part) -> bool {
    // A card names no tensors; every CLIP text encoder has fewer than 10^9 weights (pipelines/image has T5-XXL with 4.8 x 10^9).
    let own = |name: &str| name.contains("DenseReluDense");
    let numbers: u64 = part.tensors.iter().map(super::Tensor::elements).sum();
    let of_card = part.tensors.len() == 1 && numbers > 2_000_000_000;
    part.name.starts_with("text_encoder")
        && (of_card || part.tensors.iter().any(|tensor| own(&tensor.name)))
}

/// Files are mapped, and a tensor is converted on the host before it goes to the GPU.
fn reading(measured: &Measured) -> Line {
    let tensors = measured.parts.iter().flat_map(|part| &part.tensors);
    let largest = match measured.exact {
        true => tensors
            .map(|tensor| 4 * tensor.elements())
            .max()
            .unwrap_or(0),
        false => 0,
    };
    let how = match measured.exact {
        true => {
            "assumption: the largest tensor once in f32; the files themselves are mapped, and their pages are the system's to drop"
        }
        false => "unknown without the files: their largest tensor, in f32",
    };
    Line::new("reading the weights", largest, how)
}

fn disk(measured: &Measured, asked: &Asked, held: u64) -> Vec<Line> {
    if measured.facts == Facts::Mock {
        return Vec::new();
    }
    let how = match (measured.exact, weights::stored(measured)) {
        (true, _) => "all files that are fetched",
        (false, super::Stored::Float) => {
            "weights alone, if they are stored in f32: the card does not say"
        }
        (false, _) => "weights alone: a card knows of no other files",
    };
    let mut lines = vec![Line::new("files", measured.files, how)];
    if asked.quantize.is_some() && !asked.gpu {
        lines.push(Line::new(
            "quantised weights",
            held,
            "kept for the next start, as large as above",
        ));
    }
    lines.push(Line::share("margin", &lines, SPARE_DISK, ""));
    lines
}

/// How long a load takes, as far as that is known.
pub(super) fn load_time(account: &Account) -> String {
    let files = account.disk.first().map_or(0, |line| line.bytes);
    format!(
        "unknown: no platform's rate was measured; at 1 GB/s {} take {:.1} s",
        gib(files),
        files as f64 / 1e9
    )
}
