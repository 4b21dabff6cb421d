//! How far audio has been heard: its time, and how much faster than that it goes.

use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, MultiProgress};

use super::gauge::{Due, Gauge};
use crate::cli::telemetry;

/// What is shown.
pub(super) struct Hearing<'a>(Gauge<'a>);

impl<'a> Hearing<'a> {
    pub(super) fn new(bars: &'a MultiProgress, began: Instant) -> Self {
        let template = "hearing [{bar:30}] {prefix} {msg}";
        Self(Gauge::new(bars, began, template))
    }

    /// So many milliseconds of so many have been heard.
    pub(super) fn show(&mut self, (done, total): (u32, u32), now: Instant) {
        let took = self.0.took(now);
        let heard = Duration::from_millis(done.into());
        let speed = heard.as_secs_f64() / took.as_secs_f64().max(1e-9);
        match self.0.at((done, total), now) {
            Due::Bar(bar) => {
                let length = FormattedDuration(Duration::from_millis(total.into()));
                bar.set_prefix(format!("{}/{length}", FormattedDuration(heard)));
                bar.set_message(format!("{speed:.1}x"));
            }
            Due::Line => {
                let took_ms = took.as_millis() as u64;
                tracing::info!(target: telemetry::PROGRESS, heard_ms = done, audio_ms = total, took_ms, "hearing");
            }
            Due::Nowhere => {}
        }
    }
}
