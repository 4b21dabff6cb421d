//! `chandler cache …`: looking after the cache on disk. One file per subcommand; what they have in common is here.

mod bake;
mod bars;
mod confirm;
mod ls;
mod place;
mod prune;
mod push;
mod rm;
mod verify;

use std::process::ExitCode;

use crate::weights::WeightsError;
use crate::weights::cache::Folder;

/// Look after fetched models: the cache that huggingface_hub and transformers share.
#[derive(Debug, clap::Args)]
pub struct Cache {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Ls),
    Verify(verify::Verify),
    Rm(rm::Rm),
    Prune(prune::Prune),
    Push(push::Push),
    Bake(bake::Bake),
}

impl Cache {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Ls(command) => command.execute(),
            Command::Verify(command) => command.execute(),
            Command::Rm(command) => command.execute(),
            Command::Prune(command) => command.execute(),
            Command::Push(command) => command.execute(),
            Command::Bake(command) => command.execute(),
        }
    }
}

/// A model in the cache, as it is typed: `org/name[@revision]`, or a folder's name as `ls` prints it.
fn model(text: &str) -> Result<(Folder, Option<String>), WeightsError> {
    let (name, revision) = match text.split_once('@') {
        Some((name, revision)) => (name, Some(revision.to_owned())),
        None => (text, None),
    };
    let folder = match Folder::on_disk(name) {
        Some(folder) => folder,
        None => Folder::model(name)?,
    };
    Ok((folder, revision))
}

/// As many files at once as there are processors: a digest keeps one busy.
fn threads(given: Option<usize>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    given.unwrap_or_else(processors)
}
