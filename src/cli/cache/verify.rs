//! `chandler cache verify`: whether the bytes are right.

use std::process::ExitCode;

use indicatif::HumanBytes;

use super::bars;
use super::place::Place;
use crate::cli::output;
use crate::weights::cache::{Verified, Verify as What};

/// Read files in the cache and compare their digests and sizes with what they should be. Exit code 1 when something is broken.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// One model or revision; everything where none is named
    #[arg(value_name = "MODEL[@REVISION]")]
    model: Option<String>,
    /// Remove what is broken, so that the next fetch brings it anew
    #[arg(long, visible_alias = "rm")]
    repair: bool,
    /// Files that are read at once [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Verify {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let cache = self.place.open()?;
        let model = self.model.as_deref().map(super::model).transpose()?;
        let what = What {
            folder: model.as_ref().map(|(folder, _)| folder),
            revision: model.as_ref().and_then(|(_, revision)| revision.as_deref()),
            threads: super::threads(self.threads),
            remove: self.repair,
        };
        let verified = bars::shown("verifying", |progress| cache.verify(&what, progress))?;
        match self.json {
            true => output::print(&(serde_json::to_string_pretty(&verified)? + "\n"))?,
            false => output::print(&report(&verified))?,
        };
        let good = verified.broken.iter().all(|broken| broken.removed);
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn report(verified: &Verified) -> String {
    let mut text = String::new();
    for broken in &verified.broken {
        let removed = if broken.removed { " (removed)" } else { "" };
        let files = match broken.files.is_empty() {
            true => String::new(),
            false => format!(" [{}]", broken.files.join(", ")),
        };
        text.push_str(&format!(
            "{}: {}{files}: {}{removed}\n",
            broken.model,
            broken.path.display(),
            broken.reason
        ));
    }
    let bytes = HumanBytes(verified.bytes);
    text.push_str(&format!(
        "{} files, {bytes} read, {} broken",
        verified.files,
        verified.broken.len()
    ));
    if verified.unchecked > 0 {
        text.push_str(&format!(", {} without a digest", verified.unchecked));
    }
    text + "\n"
}
