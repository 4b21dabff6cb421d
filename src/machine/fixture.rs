//! A machine for tests: a directory with the few files of `proc` and `sys` that are read.

use std::path::Path;

use super::Machine;

/// The mount of version 2, as a namespace of its own shows it.
pub(crate) const V2_MOUNT: &str =
    "30 23 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n";

pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes a file, its directories with it.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::at(self.0.path())
    }
}
