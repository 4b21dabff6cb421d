//! Processors and memory: what the container's limits leave of the machine, against what the settings ask for.

use super::finding::{Finding, size};
use crate::config::Settings;
use crate::machine::{Machine, Memory, Processors};

const GROUP: &str = "limits";
/// The least that a worker with a small model is at ease with: the program, its cache and its requests.
const LITTLE: u64 = 512 << 20;
/// Connections and files of a busy worker.
const FILES: u64 = 1024;

pub fn check(settings: &Settings, machine: &Machine) -> Vec<Finding> {
    let asked = settings.threads.map(|threads| threads.get());
    let version = machine.limits().version.map(|version| version.as_str());
    let cpus = processors(&machine.processors(), asked);
    let mut findings = vec![match version {
        Some(version) => cpus.with("cgroup", version),
        None => cpus,
    }];
    let cache = settings.kv_cache.as_ref().map(|size| size.0);
    findings.extend(machine.memory().map(|found| memory(&found, cache)));
    findings.extend(files(
        &std::fs::read_to_string("/proc/self/limits").unwrap_or_default(),
    ));
    findings
}

fn processors(found: &Processors, asked: Option<usize>) -> Finding {
    let (own, quota) = (found.threads(), found.quota);
    let host = found.host.unwrap_or(found.usable);
    let threads = asked.unwrap_or(own);
    let limit = match quota {
        Some(quota) => format!("{quota:.1} by the container's quota, of {host} on the machine"),
        None if found.usable < host => {
            format!("{} may be used, of {host} on the machine", found.usable)
        }
        None => format!("{host}, no quota"),
    };
    let line = format!("{limit}; {threads} threads compute");
    let finding = if asked.is_some_and(|asked| asked > own) {
        Finding::warning(GROUP, "processors", line).mended_by(format!(
            "--threads {threads} is more than there are processors: threads wait for each other; leave it out, or give {own}"
        ))
    } else if quota.is_some_and(|quota| quota < 1.0) {
        Finding::warning(GROUP, "processors", line).mended_by(
            "less than one processor is stopped in every period: give the container at least 1 CPU",
        )
    } else {
        Finding::ok(GROUP, "processors", line)
    };
    finding
        .with("host", found.host)
        .with("usable", found.usable)
        .with("quota", quota)
        .with("threads", threads)
}

fn memory(found: &Memory, cache: Option<u64>) -> Finding {
    let whose = if found.limited {
        "the container's limit"
    } else {
        "the machine's, no limit"
    };
    let line = format!(
        "{} available of {} ({whose})",
        size(found.available),
        size(found.total)
    );
    let finding = match cache {
        Some(cache) if cache > found.available => {
            Finding::warning(GROUP, "memory", line).mended_by(format!(
                "--kv-cache {} is more than that, unless it is for a GPU: give less, or the container more",
                size(cache)
            ))
        }
        _ if found.available < LITTLE => Finding::warning(GROUP, "memory", line)
            .mended_by("too little for all but the smallest models: give the container more, or end what else runs here"),
        _ => Finding::ok(GROUP, "memory", line),
    };
    finding
        .with("total_bytes", found.total)
        .with("available_bytes", found.available)
        .with("limited", found.limited)
}

/// Each connection and each file takes one.
fn files(limits: &str) -> Option<Finding> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    let Ok(count) = soft.parse::<u64>() else {
        return Some(Finding::ok(GROUP, "open files", "no limit"));
    };
    let found = format!("{count} at most");
    let finding = match count < FILES {
        true => Finding::warning(GROUP, "open files", found)
            .mended_by(format!("each connection takes one: raise the limit to {FILES} or more (--ulimit nofile=…, LimitNOFILE=)")),
        false => Finding::ok(GROUP, "open files", found),
    };
    Some(finding.with("limit", count))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn more_threads_than_processors_are_told() {
        let found = Processors {
            host: Some(64),
            usable: 64,
            quota: Some(4.0),
        };
        let finding = processors(&found, None);
        assert_eq!(finding.level, Level::Ok);
        assert_eq!(
            finding.found,
            "4.0 by the container's quota, of 64 on the machine; 4 threads compute"
        );
        assert_eq!(finding.data["threads"], 4);
        assert_eq!(processors(&found, Some(8)).level, Level::Warning);
        let half = Processors {
            quota: Some(0.5),
            ..found
        };
        assert_eq!(processors(&half, None).level, Level::Warning);
    }

    #[test]
    fn a_cache_that_does_not_fit_is_told() {
        let found = Memory {
            total: 4 << 30,
            available: 3 << 30,
            limited: true,
        };
        assert_eq!(memory(&found, None).level, Level::Ok);
        assert_eq!(memory(&found, Some(2 << 30)).level, Level::Ok);
        let finding = memory(&found, Some(8 << 30));
        assert_eq!(finding.level, Level::Warning);
        assert!(
            finding
                .found
                .contains("3.00 GiB available of 4.00 GiB (the container's limit)"),
            "{}",
            finding.found
        );
        let little = Memory {
            available: 100 << 20,
            ..found
        };
        assert_eq!(memory(&little, None).level, Level::Warning);
    }

    #[test]
    fn few_files_are_told() {
        let of = |soft: &str| {
            files(&format!(
                "Max cpu time  unlimited\nMax open files            {soft}   1048576   files\n"
            ))
        };
        assert_eq!(of("1048576").unwrap().level, Level::Ok);
        assert_eq!(of("256").unwrap().level, Level::Warning);
        assert_eq!(of("unlimited").unwrap().level, Level::Ok);
        assert_eq!(files(""), None);
    }
}
