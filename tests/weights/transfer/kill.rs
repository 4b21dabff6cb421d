//! The kill loop: a process that fetches a sharded model is killed with SIGKILL at random moments, again and again, while hub
//! and CDN misbehave. Each next one goes on; no wrong byte is ever handed over, and nothing begins from zero.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use chandler::weights::remote::{BoxFuture, Digest, Link, Listing, Source};
use chandler::weights::transfer::client_builder;
use hub_double::{Content, Double, LinkRules, Rates, Repo};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::child::{self, Mode};
use super::*;

const KILLS: u32 = 50;
const SHARDS: u64 = 4;
const SHARD: u64 = 24 << 20;

/// A model of four shards and what belongs to them: path, bytes, and whether it is in LFS.
fn model() -> Vec<(String, Content, bool)> {
    let mut files: Vec<_> = (0..SHARDS)
        .map(|at| {
            let path = format!("model-{at}.safetensors");
            (path, Content::synthetic(at + 1, SHARD + at * 1111), true)
        })
        .collect();
    for (path, size) in [
        ("config.json", 700),
        ("tokenizer.json", 2_000_000),
        ("empty.txt", 0),
    ] {
        files.push((path.to_owned(), Content::synthetic(99, size), false));
    }
    files
}

/// One file after another, as a task for the child.
fn listing(files: &[(String, Content, bool)]) -> Value {
    let list = files.iter().map(|(path, content, lfs)| {
        let blob = if *lfs {
            content.sha256()
        } else {
            content.git_sha1()
        };
        json!({"path": path, "size": content.size(), "blob": blob, "sha256": content.sha256()})
    });
    list.collect()
}

/// The child's whole life; later phases (links, manifests) belong at its end.
pub async fn child(task: &Value) -> String {
    let directory = Path::new(task["directory"].as_str().unwrap()).to_owned();
    let mut jobs = Vec::new();
    let mut sums = std::collections::HashMap::new();
    for file in task["files"].as_array().unwrap() {
        let text = |name: &str| file[name].as_str().unwrap().to_owned();
        sums.insert(text("path"), text("sha256"));
        let partial = directory.join(format!("{}.chandler-partial", text("blob")));
        if directory.join(text("blob")).exists() {
            // As the cache does it: killed right after the blob had its name, a process leaves its journal.
            let journal = chandler::weights::transfer::journal_path(&partial);
            for left in [journal.with_added_extension("new"), journal] {
                let _ = fs::remove_file(left); // mostly it is not there
            }
            continue;
        }
        let size = file["size"].as_u64().unwrap();
        jobs.push(Job {
            partial,
            progress: Progress::default().add(&text("path"), size),
            file: RemoteFile {
                path: text("path"),
                size,
                digest: Digest::parse(&text("blob")),
                blob: text("blob"),
                etag: None,
            },
        });
    }
    let options = Options {
        range_bytes: 4 << 20,
        connections: 8,
        fetches: 5,
        ..options()
    };
    let wrong = directory.join("WRONG");
    let whole = move |job: &Job| {
        let content = fs::read(&job.partial).unwrap();
        let sum = Digest::Sha256(sha2::Sha256::digest(&content).into()).to_string();
        if sum != sums[&job.file.path] {
            fs::write(&wrong, &job.file.path).unwrap();
        }
        fs::rename(&job.partial, job.partial.with_extension("")).unwrap();
        Ok(())
    };
    let source: Arc<dyn Source> = Arc::new(Resolve {
        url: task["url"].as_str().unwrap().to_owned(),
        client: client_builder(Duration::from_secs(2))
            .no_proxy()
            .build()
            .unwrap(),
    });
    match transfer(source, jobs, &options, &Stop::new(), Arc::new(whole)).await {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The double as a source, without the hub's own: HEAD on `resolve`, and the bytes where that leads.
struct Resolve {
    url: String,
    client: reqwest::Client,
}

impl Source for Resolve {
    fn name(&self) -> String {
        "double".to_owned()
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(async { Err(WeightsError::NotHere("a listing".to_owned())) })
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        Box::pin(async move {
            let failed = |reason: String| WeightsError::Unreachable {
                place: self.name(),
                reason,
            };
            let url = format!("{}/org/model/resolve/main/{}", self.url, file.path);
            let answer = self.client.head(&url).send().await;
            let answer = answer.map_err(|error| failed(error.to_string()))?;
            let location = answer.headers().get("location");
            let url = match (answer.status().as_u16(), location) {
                (300..400, Some(location)) => location.to_str().unwrap(),
                (200, _) => url.as_str(),
                (status, _) => return Err(failed(format!("status {status}"))),
            };
            Ok(Link {
                url: url.parse().unwrap(),
                headers: reqwest::header::HeaderMap::new(),
            })
        })
    }

    fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// What the kills of one model came to.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    /// Kills while nothing had come, while bytes came, and with whole files beside partial ones.
    moments: [u32; 3],
    errors: Vec<String>,
}

fn until_whole(double: &Double, task: &Value, dice: &mut Dice, tally: &mut Tally) {
    let directory = Path::new(task["directory"].as_str().unwrap());
    loop {
        let mut process = child::start(Mode::Kill, task.clone());
        // Some as soon as the process is there.
        let latest = [60, 540, 540, 540][dice.below(4) as usize];
        let moment = Duration::from_millis(dice.below(latest));
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = process.try_wait().unwrap() {
                break Some(status);
            }
            if tally.kills < KILLS && begun.elapsed() >= moment {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(begun.elapsed() < Duration::from_secs(30), "the child hangs");
        let Some(status) = ended else {
            process.kill().unwrap();
            process.wait().unwrap();
            tally.kills += 1;
            let names = fs::read_dir(directory).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            let partial = |name: &std::ffi::OsString| name.to_string_lossy().contains("chandler-");
            let partials = names.iter().filter(|name| partial(name)).count();
            tally.moments[match (partials, names.len() - partials) {
                (0, 0) => 0,
                (_, 0..=3) => 1,
                _ => 2,
            }] += 1;
            continue;
        };
        let mut said = String::new();
        process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(status.success(), "{said}");
        if said == "done" {
            return;
        }
        // The faults were too many in a row: told in words, and the next process goes on.
        tally.errors.push(said);
        assert!(
            tally.errors.len() < 20,
            "{:?} {:?}",
            tally.errors,
            double.injected()
        );
    }
}

#[test]
fn fifty_kills_cost_neither_a_wrong_byte_nor_a_start_from_zero() {
    let double = Double::start(hub_double::Options::default()).unwrap();
    let files = model();
    let repo = files.iter().fold(
        Repo::new("org/model"),
        |repo, (path, content, lfs)| match lfs {
            true => repo.lfs(path, content.clone()),
            false => repo.git(path, content.clone()),
        },
    );
    double.put(repo);
    // A byte that was changed costs a whole shard, so those come by the script, one a model.
    double.rates(Rates {
        status: 0.02,
        too_many: 0.01,
        cut_before: 0.01,
        cut: 0.03,
        short: 0.01,
        less: 0.01,
        longer: 0.01,
        wrong_range: 0.01,
        page: 0.01,
        stall: 0.01,
        stall_ms: 1000,
        ..Rates::default()
    });
    double.link_rules(LinkRules {
        seconds: Some(1.5),
        ..LinkRules::default()
    });
    double.throttle(4 << 20);
    let size: u64 = files.iter().map(|(_, content, _)| content.size()).sum();
    let mut tally = Tally::default();
    let mut dice = Dice(5);
    let mut rounds = 0;
    while tally.kills < KILLS {
        let directory = tempfile::tempdir().unwrap();
        double.forget();
        let shard = files[rounds % SHARDS as usize].1.sha256();
        double.script_for(
            hub_double::Kind::Cdn,
            shard,
            [hub_double::Fault::Flip(12345)],
        );
        let task = json!({
            "url": double.url(),
            "directory": directory.path(),
            "files": listing(&files),
        });
        until_whole(&double, &task, &mut dice, &mut tally);
        assert!(!directory.path().join("WRONG").exists());
        for (path, content, lfs) in &files {
            let blob = if *lfs {
                content.sha256()
            } else {
                content.git_sha1()
            };
            let here = fs::read(directory.path().join(blob)).unwrap();
            assert!(here == content.bytes().unwrap(), "{path} differs");
        }
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(count, files.len(), "nothing else is left");
        let served = double.cdn_bytes();
        println!(
            "model {rounds}: {tally:?}, {:.2} times its size",
            served as f64 / size as f64
        );
        assert!(served < 2 * size, "{served} of {size} bytes: {tally:?}");
        rounds += 1;
    }
    println!("{tally:?} {:?}", double.injected());
    assert!(tally.moments[1] > 5 && tally.moments[2] > 5, "{tally:?}");
}
