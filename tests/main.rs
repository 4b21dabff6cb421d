//! End-to-end tests through the front doors: one binary, since each links everything. They run on the mock pipeline over
//! real sockets, so that `cargo test --no-default-features` needs no candle.

// Why: a test that meets an error it did not ask for should stop there.
// The helpers of one test binary have no reader outside it who would need their documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod cli;
mod http;
mod outputs;
mod provision;
mod runpod;
mod weights;
