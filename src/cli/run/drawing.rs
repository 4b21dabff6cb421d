//! How far a drawing is: its steps, and how fast they come.

use std::time::Instant;

use indicatif::MultiProgress;

use super::gauge::{Due, Gauge};
use crate::cli::telemetry;

/// What is shown.
pub(super) struct Drawing<'a>(Gauge<'a>);

impl<'a> Drawing<'a> {
    pub(super) fn new(bars: &'a MultiProgress, began: Instant) -> Self {
        let template = "drawing [{bar:30}] {pos}/{len} {msg}";
        Self(Gauge::new(bars, began, template))
    }

    /// So many steps of so many are done.
    pub(super) fn show(&mut self, (done, total): (u32, u32), now: Instant) {
        let took = self.0.took(now);
        let speed = f64::from(done) / took.as_secs_f64().max(1e-9);
        match self.0.at((done, total), now) {
            Due::Bar(bar) => bar.set_message(format!("{speed:.2} steps/s")),
            Due::Line => {
                let took_ms = took.as_millis() as u64;
                tracing::info!(target: telemetry::PROGRESS, step = done, steps = total, took_ms, "drawing");
            }
            Due::Nowhere => {}
        }
    }
}
