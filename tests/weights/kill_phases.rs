//! Kills of the program itself, through store, cache and transfer, each in a phase that was seen on the disk: the process runs in
//! slow motion (SIGCONT, a moment, SIGSTOP), so that short phases are met too. Random moments have their own test
//! ([`super::transfer`]'s kill loop). Between two system calls of the last phases lie microseconds; what a kill leaves there is
//! made by taking back what came after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use hub_double::Content;
use rustix::process::{Pid, Signal, kill_process};

use super::program::chandler;
use super::setup::*;

/// How far a pull has come, by what is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Nothing of the model yet.
    Begun,
    /// What the commit has is written down.
    Recorded,
    /// A shard has its full length, and not a byte has been sent.
    Preallocated,
    Transferring,
    /// Every byte of the shards has been sent, and one still has no final name.
    Verifying,
    /// A shard has its final name, and is not in the snapshot.
    Linking,
    /// The snapshot is whole, and the branch does not lead to it.
    Naming,
    Whole,
}

/// Each of these is met so often.
const PHASES: [Phase; 4] = [
    Phase::Recorded,
    Phase::Preallocated,
    Phase::Transferring,
    Phase::Verifying,
];
const KILLS_EACH: usize = 4;
/// More processes than this for one kill: the phase is not met any more.
const TRIES: usize = 60;

struct Pull<'a> {
    world: &'a World,
    child: Child,
}

impl Pull<'_> {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Lets it run until it is in this phase, and leaves it there, stopped. False when it was missed.
    fn stop_in(&mut self, phase: Phase) -> bool {
        let began = Instant::now();
        let mut slice = 0;
        loop {
            assert!(began.elapsed() < Duration::from_secs(60), "the pull hangs");
            self.signal(Signal::STOP);
            let now = seen(self.world);
            if now >= phase {
                return now == phase;
            }
            self.signal(Signal::CONT);
            // Moments of different lengths, so as not to step over it each time.
            slice = (slice + 7) % 40;
            // An idle machine takes longer than most of them to wake up for it: what does not come on is given more.
            let patience = 1 + began.elapsed().as_millis() as u32 / 200;
            let wait = Duration::from_micros(10 + slice * 5) * patience;
            let until = Instant::now() + wait;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            if self.ended() {
                return false;
            }
        }
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        // Why ignored: it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(world: &World) -> PathBuf {
    world.cache().join("models--org--model")
}

fn shards() -> [String; 2] {
    [1, 2].map(|seed| Content::synthetic(seed, SHARD).sha256().to_owned())
}

fn seen(world: &World) -> Phase {
    let folder = folder(world);
    let commit = world.hub.commit(REPO, "main").unwrap();
    let snapshot = folder.join("snapshots").join(&commit);
    let blobs = shards().map(|blob| folder.join("blobs").join(blob));
    let linked = [1, 2].map(|at| snapshot.join(WANTED[at]).exists());
    let named = blobs.clone().map(|blob| blob.exists());
    let all_here = WANTED.iter().all(|name| snapshot.join(name).exists());
    if folder.join("refs/main").exists() {
        return Phase::Whole;
    }
    if all_here {
        return Phase::Naming;
    }
    if (0..2).any(|at| named[at] && !linked[at]) {
        return Phase::Linking;
    }
    let partial = |blob: &PathBuf| blob.with_extension("chandler-partial");
    let sent = world.hub.cdn_bytes();
    let missing = named.iter().filter(|named| !**named).count() as u64;
    let partials = blobs
        .iter()
        .filter_map(|blob| fs::metadata(partial(blob)).ok());
    let full = partials.filter(|metadata| metadata.len() == SHARD).count() as u64;
    match (full, sent) {
        (0, _) if missing == 2 && folder.join(format!("trees/{commit}.json")).exists() => {
            Phase::Recorded
        }
        (0, _) if missing == 2 => Phase::Begun,
        (_, 0) if missing == 2 => Phase::Preallocated,
        (_, sent) if sent >= 2 * SHARD => Phase::Verifying,
        _ => Phase::Transferring,
    }
}

/// Whatever a killed process left, nobody is given a wrong byte: each file of a snapshot is whole and right.
fn nothing_wrong_is_shown(world: &World) {
    let commit = world.hub.commit(REPO, "main").unwrap();
    let snapshot = folder(world).join("snapshots").join(commit);
    let entries = fs::read_dir(&snapshot).into_iter().flatten();
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(at) = WANTED.iter().position(|wanted| *wanted == name) else {
            // A link that is being made has a name of its own until it is right.
            continue;
        };
        if let 1 | 2 = at {
            let right = Content::synthetic(at as u64, SHARD).bytes().unwrap();
            assert!(fs::read(&path).unwrap() == right, "{name} is wrong");
        }
    }
    let offline = chandler(world, &["pull", REPO, "--hub-offline", "on"])
        .output()
        .unwrap();
    if offline.status.success() {
        let dir = String::from_utf8(offline.stdout).unwrap();
        holds(Path::new(dir.trim_end()), 1);
    }
}

/// Kills one pull in this phase; how many were started for that.
fn kill_in(phase: Phase) -> usize {
    for tries in 1..=TRIES {
        let world = World::new();
        world.hub.throttle(8 << 20);
        let child = chandler(&world, &["pull", REPO]).spawn().unwrap();
        let mut pull = Pull {
            world: &world,
            child,
        };
        let met = pull.stop_in(phase);
        drop(pull);
        nothing_wrong_is_shown(&world);
        if met {
            goes_on(&world, phase);
            return tries;
        }
    }
    panic!("no pull of {TRIES} was met in the phase {phase:?}");
}

/// The next one ends with the same bytes, leaves nothing behind, and takes over what was there.
fn goes_on(world: &World, phase: Phase) {
    world.hub.forget();
    world.hub.throttle(0);
    let (stdout, _) = super::program::run(world, &["pull", REPO]);
    holds(Path::new(stdout.trim_end()), 1);
    let fetched = world.hub.cdn_bytes();
    let most = match phase {
        Phase::Linking | Phase::Naming | Phase::Whole => 0,
        // All was sent; what had not come to the journal is fetched once more, and that is less than all of it.
        Phase::Verifying => 2 * SHARD - 1,
        _ => 2 * SHARD,
    };
    assert!(fetched <= most, "{fetched} bytes after a kill in {phase:?}");
    let blobs = fs::read_dir(folder(world).join("blobs")).unwrap();
    let left: Vec<_> = blobs
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("chandler"))
        .collect();
    assert!(left.is_empty(), "{left:?} after a kill in {phase:?}");
}

#[test]
fn a_kill_in_any_phase_costs_neither_a_wrong_byte_nor_what_was_there() {
    for phase in PHASES {
        let tries: usize = (0..KILLS_EACH).map(|_| kill_in(phase)).sum();
        println!("{phase:?}: {KILLS_EACH} kills, {tries} processes");
    }
}

#[test]
fn what_a_kill_leaves_between_blob_link_and_branch_costs_nothing() {
    for phase in [Phase::Linking, Phase::Naming] {
        let world = World::new();
        super::program::run(&world, &["pull", REPO]);
        // The last things that a pull does, backwards: the branch's name, and before it a shard's place in the snapshot.
        fs::remove_file(folder(&world).join("refs/main")).unwrap();
        if phase == Phase::Linking {
            let commit = world.hub.commit(REPO, "main").unwrap();
            let snapshot = folder(&world).join("snapshots").join(commit);
            fs::remove_file(snapshot.join(WANTED[2])).unwrap();
            // The transfer's journal goes after the blob has its name.
            let blob = folder(&world).join("blobs").join(&shards()[1]);
            fs::write(blob.with_extension("chandler-journal"), "old").unwrap();
        }
        assert_eq!(seen(&world), phase);
        nothing_wrong_is_shown(&world);
        goes_on(&world, phase);
    }
}
