//! Where the caches are: whether they can be written, and what room is left.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};

use super::finding::{Finding, size};
use crate::config::Settings;

const GROUP: &str = "disk";
/// Less than most models that one would fetch.
const LITTLE: u64 = 5 << 30;
const TMPFS: i64 = 0x0102_1994;
const OVERLAY: i64 = 0x794c_7630;

pub fn check(settings: &Settings) -> Vec<Finding> {
    let hub = settings.hub_cache.value.as_deref();
    let own = settings.cache_dir.value.as_deref();
    vec![
        cache(
            "hub cache",
            "--hub-cache",
            hub,
            &settings.hub_cache.source.to_string(),
        ),
        cache(
            "own cache",
            "--cache-dir",
            own,
            &settings.cache_dir.source.to_string(),
        ),
    ]
}

fn cache(check: &'static str, flag: &str, path: Option<&Path>, source: &str) -> Finding {
    let Some(path) = path else {
        return Finding::warning(GROUP, check, "nowhere: no home directory is known").mended_by(
            format!("name a directory with {flag}; without it nothing is kept for the next start"),
        );
    };
    let shown = path.display();
    let finding = match writable(path) {
        Err(error) => Finding::problem(GROUP, check, format!("{shown} cannot be written: {error}")).mended_by(format!(
            "mount a volume there that user {} may write, or name another directory with {flag}",
            rustix::process::geteuid().as_raw()
        )),
        Ok(place) => match statfs(&place) {
            Err(error) => Finding::warning(GROUP, check, format!("{shown}, room unknown: {error}")),
            Ok(found) => {
                let free = found.f_bavail.saturating_mul(u64::try_from(found.f_bsize).unwrap_or(0));
                room(check, &format!("{shown}, {} free", size(free)), free, found.f_type)
                    .with("free_bytes", free)
            }
        },
    };
    finding
        .with("path", shown.to_string())
        .with("source", source)
}

/// What the free room and the kind of the file system mean.
fn room(check: &'static str, line: &str, free: u64, kind: i64) -> Finding {
    if kind == TMPFS {
        return Finding::warning(GROUP, check, format!("{line}, in memory")).mended_by(
            "what is fetched counts against the memory limit, beside the model itself: mount a volume, or bake the model into \
             the image (--build-arg MODEL=…)",
        );
    }
    let line = match kind {
        OVERLAY => format!("{line}, in the container's own layer: gone with the container"),
        _ => line.to_owned(),
    };
    match free < LITTLE {
        true => Finding::warning(GROUP, check, line)
            .mended_by("little room for models: mount a larger volume, or make room with `chandler cache prune`"),
        false => Finding::ok(GROUP, check, line),
    }
}

/// The directory, or the nearest one above it, where a file can be made.
fn writable(path: &Path) -> io::Result<PathBuf> {
    let place = path
        .ancestors()
        .find(|place| place.exists())
        .unwrap_or(Path::new("/"));
    if place != path {
        // Not tried: a directory that is nobody's business should not be touched.
        access(place, Access::WRITE_OK | Access::EXEC_OK)?;
        return Ok(place.to_owned());
    }
    let probe = place.join(format!(".chandler-doctor-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    fs::remove_file(probe)?;
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_cache_that_is_there_or_can_be_made_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let here = cache("hub cache", "--hub-cache", Some(dir.path()), "default");
        assert_ne!(here.level, Level::Problem, "{}", here.found);
        assert!(here.data["free_bytes"].as_u64().is_some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let below = dir.path().join("not/yet/there");
        assert_ne!(
            cache("hub cache", "--hub-cache", Some(&below), "default").level,
            Level::Problem
        );
        assert!(!below.exists());
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_a_problem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inside = file.path().join("cache");
        let found = cache("hub cache", "--hub-cache", Some(&inside), "default");
        assert_eq!(found.level, Level::Problem);
        assert!(found.remedy.unwrap().contains("--hub-cache"));
        assert_eq!(
            cache("own cache", "--cache-dir", None, "default").level,
            Level::Warning
        );
    }

    #[test]
    fn little_room_and_memory_are_told() {
        let level = |free, kind| room("hub cache", "/cache", free, kind).level;
        assert_eq!(level(1 << 40, 0xef53), Level::Ok);
        assert_eq!(level(1 << 30, 0xef53), Level::Warning);
        assert_eq!(level(1 << 40, TMPFS), Level::Warning);
        assert!(
            room("hub cache", "/cache", 1 << 40, OVERLAY)
                .found
                .contains("gone with the container")
        );
    }
}
