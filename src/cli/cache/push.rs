//! `chandler cache push`: a model into a bucket, so that other workers have it from there.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use indicatif::HumanBytes;
use serde_json::json;

use super::bars;
use crate::cli::exit::{Exit, USAGE};
use crate::cli::flags::{SettingFlags, WeightsOnly};
use crate::cli::{output, places, telemetry};
use crate::weights::mirror::{Fill, Filled, Mirror, Plain, Scope, push_plain};
use crate::weights::progress::Progress;
use crate::weights::remote::{Digest, Listing, RemoteFile};
use crate::weights::s3::S3Options;
use crate::weights::store::{Ask, Fetched, Store};
use crate::weights::{Location, WeightsError};

/// Put a model into a bucket that speaks S3, with a manifest of its files' digests.
///
/// A hub model goes where --mirror s3://bucket/prefix finds it (prefix/models--org--name/…); it is fetched first if the cache
/// lacks it. A directory goes under the prefix as it is, and is served with --model s3://bucket/prefix. What is there already
/// is not sent again, and every file is checked before it is sent.
#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// org/name[@revision] or a directory
    model: String,
    /// Where to
    #[arg(value_name = "S3://BUCKET/PREFIX")]
    to: String,
    /// Parts and small files that are sent at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<WeightsOnly>,
}

/// Where it goes.
struct Target {
    bucket: String,
    prefix: String,
    options: S3Options,
    at_once: usize,
}

impl Push {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        let to = self.to.strip_prefix("s3://").filter(|to| !to.is_empty());
        let to = to.ok_or_else(|| {
            let to = &self.to;
            Exit::new(
                USAGE,
                format!(
                    "`{to}` is no bucket that a model can be put into: give s3://bucket/prefix"
                ),
            )
        })?;
        let (bucket, prefix) = to.split_once('/').unwrap_or((to, ""));
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        self.settings.set("model", &self.model);
        let resolution = std::mem::take(&mut self.settings).resolve()?;
        let _bars = telemetry::start(&resolution.settings, &resolution.warnings);
        let wanted = places::model(&resolution)?;
        let options = places::store_options(&resolution.settings);
        let target = Target {
            bucket,
            prefix,
            options: options.s3.clone(),
            at_once: usize::from(self.at_once),
        };
        let began = Instant::now();
        let filled = match &wanted.location {
            Location::Directory(directory) => target.directory(directory)?,
            Location::Hub { repo, revision, .. } => {
                let fetched = bars::shown("fetching", |progress| {
                    let ask = Ask {
                        progress: progress.clone(),
                        ..Ask::default()
                    };
                    Store::new(options).fetch(&wanted, &ask)
                })?;
                target.snapshot(repo, revision.as_deref().unwrap_or("main"), &fetched)?
            }
            other => {
                let message = format!(
                    "`{other}` cannot be pushed: give org/name[@revision] of the hub, or a directory"
                );
                return Err(Exit::new(USAGE, message).into());
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        let (files, bytes) = match filled {
            Filled::Wrote { files, bytes } => (files, bytes),
            Filled::Already | Filled::Off => (0, 0),
            Filled::Cancelled => return Err(WeightsError::Stopped.into()),
        };
        output::print(&match self.json {
            true => format!(
                "{}\n",
                json!({"to": self.to, "files": files, "bytes": bytes, "seconds": seconds})
            ),
            false if filled == Filled::Already => format!("{}: everything was there\n", self.to),
            false => format!("{}: {files} files, {} sent\n", self.to, HumanBytes(bytes)),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Target {
    fn directory(&self, directory: &Path) -> anyhow::Result<Filled> {
        sent(|progress, cancelled| {
            let plain = Plain {
                directory: directory.to_owned(),
                bucket: self.bucket.clone(),
                prefix: self.prefix.clone(),
                progress,
                at_once: self.at_once,
            };
            async move {
                let is_cancelled = || cancelled.load(Ordering::Relaxed);
                push_plain(&plain, &self.options, &is_cancelled).await
            }
        })
    }

    fn snapshot(
        &self,
        repository: &str,
        revision: &str,
        fetched: &Fetched,
    ) -> anyhow::Result<Filled> {
        let mirror = Mirror::new(&self.bucket, &self.prefix, &self.options, Scope::Private)?;
        let files = fetched.files.iter().map(|file| RemoteFile {
            path: file.path.clone(),
            size: file.size,
            digest: promised(&fetched.dir.join(&file.path)),
            blob: String::new(),
            etag: None,
        });
        let listing = Listing {
            commit: fetched.commit.clone(),
            files: files.collect(),
        };
        sent(|progress, cancelled| {
            let fill = Fill {
                repository: repository.to_owned(),
                revision: Some(revision.to_owned()),
                listing,
                snapshot: fetched.dir.clone(),
                progress,
                at_once: self.at_once,
            };
            async move {
                mirror
                    .fill(&fill, &|| cancelled.load(Ordering::Relaxed))
                    .await
            }
        })
    }
}

/// What a file of the cache must give: its blob is named after it. A copy without links is only known by its bytes.
fn promised(path: &Path) -> Option<Digest> {
    let blob = fs::read_link(path).ok()?;
    Digest::parse(blob.file_name()?.to_str()?)
}

/// Sends with progress, and takes back what is half sent when somebody presses Ctrl-C.
fn sent<Fut: Future<Output = Result<Filled, WeightsError>>>(
    work: impl FnOnce(Arc<Progress>, Arc<AtomicBool>) -> Fut + Send,
) -> anyhow::Result<Filled> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the network's threads did not start")?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = cancelled.clone();
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    let filled = bars::shown("sending", |progress| {
        runtime.block_on(work(progress.clone(), cancelled))
    });
    runtime.shutdown_background();
    Ok(filled?)
}
