//! How far reading through files is: a bar on a terminal, a line every few seconds elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::weights::progress::Progress;

const DRAW_EVERY: Duration = Duration::from_millis(100);
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Does the work and shows how far it is.
pub(super) fn shown<R: Send>(what: &str, work: impl FnOnce(&Arc<Progress>) -> R + Send) -> R {
    let progress = Arc::new(Progress::default());
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let watched = progress.clone();
        scope.spawn(move || {
            let bar = io::stderr().is_terminal().then(bar);
            let mut said = Instant::now();
            while ended.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                let now = watched.totals();
                // What only reads counts digests; what sends or fetches counts bytes.
                let through = now.verified.max(now.received);
                if let Some(bar) = &bar {
                    bar.set_length(now.size);
                    bar.set_position(through);
                } else if said.elapsed() >= SAY_EVERY {
                    said = Instant::now();
                    eprintln!(
                        "{what}: {} of {}",
                        HumanBytes(through),
                        HumanBytes(now.size)
                    );
                }
            }
            bar.inspect(ProgressBar::finish_and_clear);
        });
        let result = work(&progress);
        drop(done);
        result
    })
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "[{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
