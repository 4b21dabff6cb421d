//! `chandler cache bake`: a model as plain files, for an image's layer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use indicatif::HumanBytes;

use super::bars;
use super::place::Place;
use crate::cli::output;
use crate::weights::cache::{Bake as Laying, Candidate, Lookup};

/// Files of a layer get this time, 1980-01-01: the oldest that every archive format can say.
const TIME: u64 = 315_532_800;

/// Lay a model of the cache as plain files into a directory, verified, for a layer of an image.
///
/// Times and modes are always the same (SOURCE_DATE_EPOCH sets the time), so that the same model gives the same layer. Serve it
/// with --model DIRECTORY. The directory must be empty, or have been laid by this command.
#[derive(Debug, clap::Args)]
pub(super) struct Bake {
    /// Which model: org/name, or org/name@revision
    #[arg(value_name = "MODEL[@REVISION]")]
    model: String,
    /// Where to
    directory: PathBuf,
    /// Files that are copied at once [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print what was laid as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Bake {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let cache = self.place.open()?;
        let (folder, revision) = super::model(&self.model)?;
        let revision = revision.as_deref().unwrap_or("main");
        let found = match cache.look(&folder, revision, &wanted)? {
            Lookup::Found(found) => found,
            Lookup::Incomplete { missing, .. } => bail!(
                "{}@{revision} is not whole in the cache, {} files are missing ({}): fetch it with `chandler pull {}`",
                folder.title(),
                missing.len(),
                missing.join(", "),
                self.model
            ),
            Lookup::Absent => bail!(
                "{}@{revision} is not in the cache at {}: fetch it with `chandler pull {}`",
                folder.title(),
                cache.root().display(),
                self.model
            ),
        };
        let _in_use = cache.hold(&found)?;
        let laying = Laying {
            found: &found,
            dir: &self.directory,
            time: time()?,
            threads: super::threads(self.threads),
        };
        let baked = bars::shown("baking", |progress| laying.lay(progress))?;
        if self.json {
            output::print(&(serde_json::to_string_pretty(&baked)? + "\n"))?;
        } else {
            let (bytes, dir) = (HumanBytes(baked.bytes()), self.directory.display());
            output::print(&format!(
                "{}@{}: {} files, {bytes} in {dir}\n",
                baked.model,
                baked.commit,
                baked.files.len()
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What was wanted when it was fetched; else all that the commit has, or that is there.
fn wanted(candidate: &Candidate<'_>) -> Option<Vec<String>> {
    let all = || {
        candidate
            .files
            .iter()
            .map(|file| file.path.clone())
            .collect()
    };
    Some(candidate.recorded.map_or_else(all, <[String]>::to_vec))
}

fn time() -> anyhow::Result<SystemTime> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .context("SOURCE_DATE_EPOCH is no number of seconds")?,
        Err(_) => TIME,
    };
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
