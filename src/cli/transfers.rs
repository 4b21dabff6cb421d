//! How far a download is, for a person or a log: a bar per file and a total on a terminal, one line every few seconds
//! elsewhere. Only looks at counters; whoever counts never waits for it.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::weights::progress::{FileProgress, Phase, Progress, Totals};

/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of the last so many seconds.
const WINDOW: Duration = Duration::from_secs(10);
/// Bars at once: more would push the total off the screen.
const MOST_BARS: usize = 8;
const FILE: &str = "  {msg:40!} [{bar:30}] {bytes}/{total_bytes}";
const TOTAL: &str = "{msg:42!} [{bar:30}] {bytes}/{total_bytes} {prefix}";

/// What is shown.
pub struct Transfers {
    progress: Arc<Progress>,
    rate: Rate,
    view: View,
}

enum View {
    Bars {
        all: MultiProgress,
        total: Option<ProgressBar>,
        files: Vec<(Arc<FileProgress>, ProgressBar)>,
    },
    Log {
        last: Instant,
        /// What the last line said.
        told: Option<(Phase, u64)>,
    },
}

impl Transfers {
    /// Shows nothing before there is something to show.
    pub fn new(bars: &MultiProgress, progress: Arc<Progress>) -> Self {
        let view = if io::stderr().is_terminal() {
            View::Bars {
                all: bars.clone(),
                total: None,
                files: Vec::new(),
            }
        } else {
            View::Log {
                last: Instant::now(),
                told: None,
            }
        };
        Self {
            progress,
            rate: Rate::default(),
            view,
        }
    }

    /// To be called several times a second.
    pub fn tick(&mut self) {
        let totals = self.progress.totals();
        if totals.files == 0 {
            return;
        }
        self.rate.add(Instant::now(), totals.received);
        let rate = self.rate.per_second();
        match &mut self.view {
            View::Log { last, told } => {
                let news = Some((totals.phase, totals.received));
                let due = last.elapsed() >= LOG_EVERY;
                if due && *told != news && totals.phase != Phase::Done {
                    (*last, *told) = (Instant::now(), news);
                    log(totals, rate);
                }
            }
            View::Bars { all, total, files } => {
                let total = total.get_or_insert_with(|| bar(all, TOTAL, totals.size));
                total.set_length(totals.size);
                total.set_position(totals.received);
                total.set_message(format!("{} ({} files)", name(totals.phase), totals.files));
                total.set_prefix(speed(totals, rate));
                files.retain(|(file, bar)| {
                    let open = file.received() < file.size;
                    match open {
                        true => bar.set_position(file.received()),
                        false => bar.finish_and_clear(),
                    }
                    open
                });
                for file in self.progress.each() {
                    let moving = (1..file.size).contains(&file.received());
                    let shown = files.iter().any(|(other, _)| Arc::ptr_eq(other, &file));
                    if moving && !shown && files.len() < MOST_BARS {
                        let one = ProgressBar::new(file.size);
                        let one = all.insert_before(total, style(one, FILE));
                        one.set_message(file.path.clone());
                        files.push((file, one));
                    }
                }
            }
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        if let View::Bars { total, files, .. } = &self.view {
            let files = files.iter().map(|(_, bar)| bar);
            files.chain(total).for_each(ProgressBar::finish_and_clear);
        }
    }
}

fn bar(all: &MultiProgress, template: &str, size: u64) -> ProgressBar {
    all.add(style(ProgressBar::new(size), template))
}

fn style(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

fn log(totals: Totals, rate: f64) {
    tracing::info!(
        stage = name(totals.phase),
        files = totals.files,
        received_bytes = totals.received,
        verified_bytes = totals.verified,
        total_bytes = totals.size,
        bytes_per_second = rate as u64,
        seconds_left = left(totals, rate).map(|left| left.as_secs()),
        "fetching"
    );
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Waiting => "waiting for another worker's download",
        Phase::Transferring => "downloading",
        Phase::Verifying => "verifying",
        Phase::Done => "done",
    }
}

fn speed(totals: Totals, rate: f64) -> String {
    let per_second = indicatif::HumanBytes(rate as u64);
    match left(totals, rate) {
        Some(left) => format!("{per_second}/s, {} left", indicatif::HumanDuration(left)),
        None => format!("{per_second}/s"),
    }
}

fn left(totals: Totals, rate: f64) -> Option<Duration> {
    let missing = totals.size.saturating_sub(totals.received);
    (rate >= 1.0).then(|| Duration::from_secs_f64(missing as f64 / rate))
}

/// Bytes per second over the last while.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, now: Instant, bytes: u64) {
        // What was found damaged is taken back: the count begins anew.
        if self.0.back().is_some_and(|(_, last)| *last > bytes) {
            self.0.clear();
        }
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && self.0.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.0.pop_front();
        }
    }

    fn per_second(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some((from, before)), Some((to, now))) if to > from => {
                (now - before) as f64 / (*to - *from).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for second in 0..60 {
            // Slow at first, then fast.
            let bytes = if second < 30 {
                second
            } else {
                30 + (second - 30) * 100
            };
            rate.add(start + Duration::from_secs(second), bytes);
        }
        assert!((rate.per_second() - 100.0).abs() < 1.0);
        rate.add(start + Duration::from_secs(61), 0);
        assert_eq!(rate.per_second(), 0.0);
    }
}
