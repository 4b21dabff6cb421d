//! The RunPod front door: the binary as a queue worker of the fake platform.

mod chaos;
mod process;
