//! `chandler endpoints gc`: what bears our mark and belongs to nothing that this machine remembers, and what was left in the
//! middle of being made or taken down.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::exit::FAILED;
use crate::cli::output;
use crate::cli::provision::{Places, failed, rebuild, runtime, tell};
use crate::provision::{Piece, Platform, Record, Records, State};

/// Find what nobody owns: endpoints and their pieces that bear this machine's mark and are in no record, and those that were
/// left in the middle. Takes them down with --yes.
#[derive(Debug, clap::Args)]
pub struct Gc {
    /// Take them down
    #[arg(long)]
    yes: bool,
    /// Also what bears another owner's mark, on accounts that are yours alone
    #[arg(long)]
    all_owners: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    places: Places,
}

/// Something that may go, and why.
struct Leftover {
    platform: Box<dyn Platform>,
    what: What,
    why: &'static str,
}

enum What {
    /// The platform knows it.
    Piece(Piece),
    /// A record of this machine.
    Record(Record),
}

impl What {
    fn describe(&self) -> (&str, &str) {
        match self {
            Self::Piece(piece) => (piece.kind, &piece.id),
            Self::Record(record) => ("endpoint", record.name.as_str()),
        }
    }
}

impl Gc {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let records = self.places.records()?;
        let runtime = runtime()?;
        let (found, unasked) = runtime.block_on(self.find(&records))?;
        self.show(&found)?;
        let mut code = match unasked {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(FAILED),
        };
        if !self.yes {
            return Ok(code);
        }
        for leftover in &found {
            let (kind, id) = leftover.what.describe();
            match runtime.block_on(take_down(leftover, &records)) {
                Ok(()) => tell(&format!("  {kind} {id} is gone")),
                Err(error) => {
                    tell(&format!("chandler: {kind} {id}: {error:#}"));
                    code = ExitCode::from(FAILED);
                }
            }
        }
        Ok(code)
    }

    /// What may go, and on how many places nobody could be asked.
    async fn find(&self, records: &Records) -> anyhow::Result<(Vec<Leftover>, usize)> {
        let owner = records.owner()?;
        let all = records.all()?;
        let mut found = Vec::new();
        let mut unasked = 0;
        let mut seen = BTreeSet::new();
        for place in records.places()? {
            let asked = match rebuild(&place, self.places.patience()) {
                Ok(platform) => platform.ours().await.map_err(failed).map_err(Into::into),
                Err(error) => Err(error),
            };
            let pieces = match asked {
                Ok(pieces) => pieces,
                Err(error) => {
                    unasked += 1;
                    tell(&format!(
                        "chandler: {} was not asked: {error:#}",
                        place.platform
                    ));
                    continue;
                }
            };
            for piece in pieces {
                let known = all.iter().any(|record| {
                    record.platform == place.platform
                        && Some(&record.name) == piece.deployment.as_ref()
                });
                let mine = self.all_owners || piece.owner.as_deref() == Some(owner.as_str());
                let why = match (piece.orphan, known) {
                    (true, false) => "what it belonged to is gone",
                    (false, false) => "it is in no record of this machine",
                    (_, true) => continue, // an endpoint that is remembered is for its own commands
                };
                if mine && seen.insert((place.platform.clone(), piece.id.clone())) {
                    found.push(Leftover {
                        platform: rebuild(&place, self.places.patience())?,
                        what: What::Piece(piece),
                        why,
                    });
                }
            }
        }
        for record in all {
            let why = match record.state {
                // Somebody works on it now.
                _ if records.lock(&record.name).is_err() => continue,
                State::Creating => "it was left while it was made, or nobody waited for it",
                State::Failed => "it failed and was kept, or could not be taken down",
                State::Deleting => "it was left while it was taken down",
                State::Ready | State::Updating => continue,
            };
            found.push(Leftover {
                platform: rebuild(&record, self.places.patience())?,
                what: What::Record(record),
                why,
            });
        }
        Ok((found, unasked))
    }

    fn show(&self, found: &[Leftover]) -> anyhow::Result<()> {
        let text = if self.json {
            let rows = found.iter().map(|leftover| {
                let (kind, id) = leftover.what.describe();
                json!({"platform": leftover.platform.id(), "kind": kind, "id": id, "why": leftover.why})
            });
            format!("{:#}\n", serde_json::Value::from_iter(rows))
        } else if found.is_empty() {
            "nothing is left over\n".to_owned()
        } else {
            let rows = found.iter().map(|leftover| {
                let (kind, id) = leftover.what.describe();
                format!("{} {kind} {id}: {}\n", leftover.platform.id(), leftover.why)
            });
            let hint = if self.yes {
                ""
            } else {
                "`chandler endpoints gc --yes` takes them down\n"
            };
            rows.collect::<String>() + hint
        };
        output::print(&text)?;
        Ok(())
    }
}

async fn take_down(leftover: &Leftover, records: &Records) -> anyhow::Result<()> {
    match &leftover.what {
        What::Piece(piece) => leftover.platform.remove(piece).await.map_err(failed)?,
        What::Record(record) => {
            let _lock = records.lock(&record.name)?;
            leftover
                .platform
                .delete(&record.name, &|_| {})
                .await
                .map_err(failed)?;
            records.forget(&record.name)?;
        }
    }
    Ok(())
}
