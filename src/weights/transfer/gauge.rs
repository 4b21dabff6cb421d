//! How many requests there should be at once: more as long as more bring more, fewer when the source asks for it. It knows
//! numbers only, and no clock.

use std::time::Duration;

/// More requests are worth while when they bring so much more.
const GAIN: f64 = 1.07;
/// Windows that pass after a change before the rate is believed.
const SETTLE: u32 = 1;
/// Windows until the next trial, when the last one brought nothing.
const REST: u32 = 20;
/// Windows of peace after the source has complained.
const PEACE: u32 = 8;

/// What happened in one window of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub bytes: u64,
    pub time: Duration,
    /// Whether there were as many requests as there may be: else their number says nothing.
    pub full: bool,
    /// Answers 429 and 503, and connections that fell silent.
    pub complaints: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Gauge {
    now: usize,
    most: usize,
    wait: u32,
    /// How many there were before the trial that goes on, and at what rate.
    trial: Option<(usize, f64)>,
}

impl Gauge {
    pub fn new(first: usize, most: usize) -> Self {
        let most = most.max(1);
        Self {
            now: first.clamp(1, most),
            most,
            wait: SETTLE,
            trial: None,
        }
    }

    /// Requests that there may be at once.
    pub fn requests(&self) -> usize {
        self.now
    }

    /// Learns from a window.
    pub fn learn(&mut self, window: Window) {
        if window.complaints > 0 {
            self.now = (self.now * 3 / 4).max(1);
            self.trial = None;
            self.wait = PEACE;
            return;
        }
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        if !window.full {
            return;
        }
        let rate = window.bytes as f64 / window.time.as_secs_f64().max(0.001);
        match self.trial.take() {
            Some((before, old)) if rate < old * GAIN => {
                self.now = before;
                self.wait = REST;
            }
            _ if self.now < self.most => {
                self.trial = Some((self.now, rate));
                self.now = (self.now * 2).min(self.most);
                self.wait = SETTLE;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows on a link that gives each request `each`, and all together `link`.
    fn run(gauge: &mut Gauge, windows: usize, each: u64, link: u64) {
        for _ in 0..windows {
            gauge.learn(Window {
                bytes: (gauge.requests() as u64 * each).min(link),
                time: Duration::from_secs(1),
                full: true,
                complaints: 0,
            });
        }
    }

    #[test]
    fn requests_grow_while_they_bring_more() {
        let mut gauge = Gauge::new(8, 32);
        run(&mut gauge, 6, 50, 1_000_000);
        assert_eq!(gauge.requests(), 32, "within six windows");
        let mut gauge = Gauge::new(8, 32);
        run(&mut gauge, 4, 50, 400);
        assert_eq!(gauge.requests(), 8, "the link is full with eight");
        run(&mut gauge, 100, 50, 400);
        assert!(gauge.requests() <= 16, "a trial at most");
        run(&mut gauge, 40, 50, 4000);
        assert_eq!(gauge.requests(), 32, "the link has become faster");
    }

    #[test]
    fn requests_shrink_when_the_source_complains_but_never_to_none() {
        let mut gauge = Gauge::new(8, 32);
        let complaint = Window {
            bytes: 0,
            time: Duration::from_secs(1),
            full: true,
            complaints: 3,
        };
        gauge.learn(complaint);
        assert_eq!(gauge.requests(), 6);
        for _ in 0..20 {
            gauge.learn(complaint);
        }
        assert_eq!(gauge.requests(), 1);
        run(&mut gauge, 7, 50, 1_000_000);
        assert_eq!(gauge.requests(), 1, "left in peace for a while");
        assert_eq!(Gauge::new(8, 0).requests(), 1);
        assert_eq!(Gauge::new(8, 4).requests(), 4);
    }

    #[test]
    fn a_window_with_idle_places_says_nothing() {
        let mut gauge = Gauge::new(8, 32);
        for _ in 0..20 {
            gauge.learn(Window {
                bytes: 1000,
                time: Duration::from_secs(1),
                full: false,
                complaints: 0,
            });
        }
        assert_eq!(gauge.requests(), 8);
    }
}
