//! What goes wrong on purpose: drawn by seed and rate, or scripted one by one. Apart from the server, which carries it out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::route::Kind;

/// One thing that goes wrong with one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The message is not looked at, and answered with this status.
    Status(u16),
    /// The message is accepted, and answered with this status all the same.
    StatusAfter(u16),
    /// The connection is cut before the body is read.
    CutBefore,
    /// The message is accepted, and the connection cut without an answer.
    CutAfter,
    /// The message is accepted, and the connection cut in the middle of the answer's body.
    CutMidway,
    /// It takes so many milliseconds longer.
    Delay(u64),
    /// A take is answered with something that is no proper job; the number chooses what.
    Malformed(u64),
    /// This very answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body, whatever it is.
        body: String,
    },
}

impl Fault {
    /// Its name in the account.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::StatusAfter(_) => "status_after",
            Self::CutBefore => "cut_before",
            Self::CutAfter => "cut_after",
            Self::CutMidway => "cut_midway",
            Self::Delay(_) => "delay",
            Self::Malformed(_) => "malformed",
            Self::Answer { .. } => "answer",
        }
    }
}

/// How often which fault happens to a worker's message: 0 is never, 1 always. What adds up to more than 1 is cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// 500, 502 or 503 without a look at the message.
    pub status: f64,
    /// The same after accepting it.
    pub status_after: f64,
    /// 429 on a take or stop poll.
    pub too_many: f64,
    /// 400 on a take, which means "no job".
    pub no_job_400: f64,
    /// A cut before the body is read.
    pub cut_before: f64,
    /// A cut after accepting it.
    pub cut_after: f64,
    /// A cut in the middle of the answer.
    pub cut_midway: f64,
    /// A delay.
    pub delay: f64,
    /// The longest delay.
    pub delay_ms: u64,
    /// No proper job in the answer to a take.
    pub malformed: f64,
    /// A job that is taken is stopped some time later.
    pub stop: f64,
    /// The longest time until then.
    pub stop_ms: u64,
}

#[derive(Debug)]
pub struct Faults {
    random: Random,
    rates: Rates,
    script: HashMap<Kind, VecDeque<Fault>>,
    pub injected: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            rates: Rates::default(),
            script: HashMap::new(),
            injected: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, rates: Rates) {
        self.rates = rates;
    }

    pub fn script(&mut self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        self.script.entry(kind).or_default().extend(faults);
    }

    /// What happens to the next message of a kind: scripted faults first.
    pub fn draw(&mut self, kind: Kind) -> Option<Fault> {
        let scripted = self.script.get_mut(&kind).and_then(VecDeque::pop_front);
        let fault = scripted.or_else(|| self.by_rate(kind))?;
        *self.injected.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    fn by_rate(&mut self, kind: Kind) -> Option<Fault> {
        let rates = self.rates;
        if rates == Rates::default() {
            return None;
        }
        let polls = matches!(kind, Kind::Take | Kind::Stop);
        let only = |wanted: bool, rate: f64| if wanted { rate } else { 0.0 };
        let status = [500, 502, 503][self.random.below(3) as usize];
        let delay = 1 + self.random.below(rates.delay_ms);
        let choices = [
            (rates.status, Fault::Status(status)),
            (rates.status_after, Fault::StatusAfter(status)),
            (only(polls, rates.too_many), Fault::Status(429)),
            (
                only(kind == Kind::Take, rates.no_job_400),
                Fault::Status(400),
            ),
            (rates.cut_before, Fault::CutBefore),
            (rates.cut_after, Fault::CutAfter),
            (rates.cut_midway, Fault::CutMidway),
            (rates.delay, Fault::Delay(delay)),
            (
                only(kind == Kind::Take, rates.malformed),
                Fault::Malformed(self.random.next()),
            ),
        ];
        let mut point = self.random.unit();
        for (rate, fault) in choices {
            if point < rate {
                return Some(fault);
            }
            point -= rate;
        }
        None
    }

    /// When a job that is taken now is to be stopped.
    pub fn stop_after(&mut self) -> Option<Duration> {
        if self.rates.stop == 0.0 || self.random.unit() >= self.rates.stop {
            return None;
        }
        *self.injected.entry("stop").or_default() += 1;
        Some(Duration::from_millis(
            self.random.below(self.rates.stop_ms.max(1)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_comes_first_and_the_seed_decides_the_rest() {
        let draw = |seed| {
            let mut faults = Faults::new(seed);
            faults.script(Kind::Done, [Fault::CutAfter]);
            faults.set(Rates {
                status: 0.2,
                cut_before: 0.2,
                ..Rates::default()
            });
            (0..100)
                .map(|_| faults.draw(Kind::Done))
                .collect::<Vec<_>>()
        };
        let first = draw(7);
        assert_eq!(first[0], Some(Fault::CutAfter));
        assert_eq!(first, draw(7));
        assert_ne!(first, draw(8));
        let count =
            |wanted: fn(&Fault) -> bool| first.iter().flatten().filter(|f| wanted(f)).count();
        assert!(
            (8..35).contains(&count(|f| matches!(f, Fault::Status(500..=503)))),
            "{first:?}"
        );
        assert!(
            (8..35).contains(&count(|f| matches!(f, Fault::CutBefore))),
            "{first:?}"
        );
    }

    #[test]
    fn only_polls_are_told_to_slow_down() {
        let mut faults = Faults::new(1);
        faults.set(Rates {
            too_many: 1.0,
            ..Rates::default()
        });
        assert_eq!(faults.draw(Kind::Done), None);
        assert_eq!(faults.draw(Kind::Take), Some(Fault::Status(429)));
    }
}
