//! How far work is, for a person or a log: a bar on a terminal, a line every few seconds elsewhere. Nothing for what is done at
//! once. What the bar and the line say is the business of whoever shows it.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shorter work shows nothing.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What is shown.
pub(super) struct Gauge<'a> {
    bars: &'a MultiProgress,
    began: Instant,
    /// Of the bar.
    template: &'static str,
    view: View,
}

enum View {
    Bar(Option<ProgressBar>),
    Log(Pace),
}

/// Where to say now how far the work is.
pub(super) enum Due<'a> {
    /// On a bar, whose position is set.
    Bar(&'a ProgressBar),
    /// In a line of a log.
    Line,
    Nowhere,
}

impl<'a> Gauge<'a> {
    pub(super) fn new(bars: &'a MultiProgress, began: Instant, template: &'static str) -> Self {
        let view = match io::stderr().is_terminal() {
            true => View::Bar(None),
            false => View::Log(Pace::default()),
        };
        Self {
            bars,
            began,
            template,
            view,
        }
    }

    /// What the work has taken until now.
    pub(super) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// So much of so much is done.
    pub(super) fn at(&mut self, (done, total): (u32, u32), now: Instant) -> Due<'_> {
        let took = self.took(now);
        match &mut self.view {
            View::Bar(None) if took < AT_ONCE => Due::Nowhere,
            View::Bar(bar) => {
                let bar = bar.get_or_insert_with(|| self.bars.add(bar_of(self.template)));
                bar.set_length(total.into());
                bar.set_position(done.into());
                Due::Bar(bar)
            }
            View::Log(pace) => match pace.is_due(self.began, now) {
                true => Due::Line,
                false => Due::Nowhere,
            },
        }
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        if let View::Bar(Some(bar)) = &self.view {
            bar.finish_and_clear();
        }
    }
}

fn bar_of(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// When a line of a log is due.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
}

impl Pace {
    fn is_due(&mut self, began: Instant, now: Instant) -> bool {
        let (since, wait) = match self.last {
            None => (began, AT_ONCE),
            Some(last) => (last, LOG_EVERY),
        };
        let is_due = now.saturating_duration_since(since) >= wait;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_line_after_a_second_and_then_every_ten() {
        let began = Instant::now();
        let mut pace = Pace::default();
        let due: Vec<u64> = (0..300)
            .map(|tick| tick * 100)
            .filter(|ms| pace.is_due(began, began + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(due, [1000, 11_000, 21_000]);
    }
}
