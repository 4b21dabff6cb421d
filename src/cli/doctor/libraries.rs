//! The libraries that a CUDA build loads: which are found, and where. Looked for where the dynamic linker looks, without loading
//! any, so that a missing one is told by its name.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::smi::Cards;

const GROUP: &str = "libraries";
/// What the name of the file begins with, whether a CUDA build cannot do without, and where it comes from.
const LIBRARIES: [(&str, bool, &str); 5] = [
    (
        "libcuda.so",
        true,
        "the driver's: start the container with --gpus all (NVIDIA's container toolkit mounts it)",
    ),
    (
        "libcublas.so",
        true,
        "cuBLAS: the CUDA image brings it; elsewhere install it and name its directory in LD_LIBRARY_PATH",
    ),
    (
        "libcublasLt.so",
        true,
        "cuBLASLt: the CUDA image brings it; elsewhere install it and name its directory in LD_LIBRARY_PATH",
    ),
    (
        "libcurand.so",
        true,
        "cuRAND: the CUDA image brings it; elsewhere install it and name its directory in LD_LIBRARY_PATH",
    ),
    ("libcudnn.so", false, ""),
];
/// Where NVIDIA's and the distributions' packages put them.
const USUAL: [&str; 9] = [
    "/usr/local/lib/chandler",
    "/usr/local/nvidia/lib64",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
];

/// Directories that are looked into, first come first.
#[derive(Debug)]
pub struct Places(Vec<PathBuf>);

impl Places {
    /// This machine's.
    pub fn here() -> Self {
        let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path)
            .filter(|place| place.is_absolute())
            .collect();
        let configured = std::fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten();
        let mut files: Vec<PathBuf> = configured.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines = text
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with('/'));
            places.extend(lines.map(PathBuf::from));
        }
        places.extend(USUAL.map(PathBuf::from));
        Self(places)
    }

    /// The file of a library, with whatever version: `libcublas.so.12`.
    fn find(&self, name: &str) -> Option<PathBuf> {
        self.0.iter().find_map(|place| within(place, name))
    }
}

fn within(place: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(place).ok()?.flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let file = path
                .file_name()
                .and_then(|file| file.to_str())
                .unwrap_or_default();
            let version = file.strip_prefix(name);
            version.is_some_and(|version| version.is_empty() || version.starts_with('.'))
                && path.exists()
        })
        .collect();
    files.sort();
    files.into_iter().next()
}

pub fn check(cuda: bool, cards: &Cards, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, needed, origin) in LIBRARIES {
        match places.find(name) {
            Some(path) => {
                let finding = Finding::ok(GROUP, name, path.display().to_string());
                findings.push(finding.with("path", path.display().to_string()));
            }
            None if cuda && needed => {
                findings.push(Finding::problem(GROUP, name, "not found").mended_by(origin));
            }
            None => {}
        }
    }
    if findings.is_empty() {
        let found = match cards.cards.is_empty() {
            true => "none of CUDA's, and this build needs none",
            false => "none of CUDA's here; this build would use none",
        };
        findings.push(Finding::ok(GROUP, "CUDA", found));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_cuda_build_misses_what_it_cannot_do_without() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["libcublas.so.12", "libcublasLt.so.12", "libcurand.so.10"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let places = Places(vec![dir.path().join("nowhere"), dir.path().to_owned()]);
        let findings = check(true, &Cards::default(), &places);
        let level = |name: &str| {
            findings
                .iter()
                .find(|finding| finding.check == name)
                .map(|finding| finding.level)
        };
        assert_eq!(level("libcublas.so"), Some(Level::Ok));
        assert_eq!(level("libcuda.so"), Some(Level::Problem));
        assert_eq!(level("libcudnn.so"), None);
        // `libcublas.so` is not the beginning of `libcublasLt.so.12`.
        std::fs::remove_file(dir.path().join("libcublas.so.12")).unwrap();
        let findings = check(true, &Cards::default(), &places);
        assert_eq!(
            findings
                .iter()
                .filter(|finding| finding.level == Level::Problem)
                .count(),
            2
        );
    }

    #[test]
    fn a_cpu_build_misses_nothing() {
        let findings = check(false, &Cards::default(), &Places(Vec::new()));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok) && findings.len() == 1);
    }
}
