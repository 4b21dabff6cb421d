//! The worker: everything that is not tensor work. `main.rs` only parses and dispatches; tests and benches use this library.

pub mod api;
pub mod bench;
mod calendar;
pub mod captions;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod engine;
pub mod google;
mod kinds;
pub mod machine;
mod nearest;
pub mod pictures;
pub mod provision;
pub mod reach;
pub mod runpod;
mod spellings;
mod sse;
pub mod storage;
pub mod webhook;
pub mod weights;
