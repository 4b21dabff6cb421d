//! What the machine gives this process: processors and memory, after the limits of its container (cgroups) and not as the host
//! has them. Apart from its users (threads, `doctor`) because the numbers have to be the same ones.

mod cgroup;
mod memory;
mod processors;

#[cfg(test)]
mod fixture;

use std::path::{Path, PathBuf};

pub use cgroup::{Limits, MemoryLimit, Version};
pub use memory::Memory;
pub use processors::Processors;

/// Where the system's files are.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        Self::at("/")
    }

    /// One whose `proc` and `sys` lie below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What the container may use; nothing where there is no container, or none that says so.
    pub fn limits(&self) -> Limits {
        cgroup::read(self)
    }

    /// Processors: the host's, those that may be used, and threads that suit them.
    pub fn processors(&self) -> Processors {
        Processors::of(self)
    }

    /// Memory: the container's where it has a limit, else the machine's.
    pub fn memory(&self) -> Option<Memory> {
        Memory::of(self)
    }

    /// A file's text; `path` is absolute.
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.below(path)).ok()
    }

    fn below(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}
