//! What goes wrong on purpose: drawn by seed and rate, or scripted one by one. Apart from the server, which carries it out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// What a request asks for, which decides which faults may happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The hub's JSON.
    Api,
    /// A file, asked of the hub: an answer of its own or a redirect.
    Resolve,
    /// A file's bytes, asked of the CDN.
    Cdn,
}

/// One thing that goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This status, with a page that says so.
    Status(u16),
    /// 429, with what says how long, in seconds.
    TooMany {
        /// `Retry-After`.
        retry_after: Option<u64>,
        /// The `t` of the header `ratelimit`.
        reset: Option<u64>,
    },
    /// This very answer, with these headers besides `Content-Length`.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The headers.
        headers: BTreeMap<String, String>,
        /// The body, whatever it is.
        body: String,
    },
    /// The connection ends without an answer.
    CutBefore,
    /// The connection ends after so many bytes of the body; its length was announced.
    Cut(u64),
    /// So many bytes a second.
    Slow(u64),
    /// Nothing more after so many bytes, for so many milliseconds.
    Stall {
        /// Bytes of the body that come at once.
        after: u64,
        /// How long until the rest comes.
        ms: u64,
    },
    /// The answer begins so many milliseconds later.
    Delay(u64),
    /// The byte at this offset of the body is another one (the last one, if the body is shorter).
    Flip(u64),
    /// The last so many bytes do not come, though they were announced.
    Short(u64),
    /// So many bytes fewer than the range has are announced and sent.
    Less(u64),
    /// So many bytes more than the range has are announced and sent.
    Longer(u64),
    /// Another range than was asked for, and `Content-Range` says so.
    WrongRange,
    /// The whole file with 200, though a range was asked for.
    Whole,
    /// The link has expired (CDN only).
    Expired,
    /// 200 with a page of HTML in place of what was asked for, as some proxies do it.
    Page,
}

impl Fault {
    /// Its name in the account.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::TooMany { .. } => "too_many",
            Self::Answer { .. } => "answer",
            Self::CutBefore => "cut_before",
            Self::Cut(_) => "cut",
            Self::Slow(_) => "slow",
            Self::Stall { .. } => "stall",
            Self::Delay(_) => "delay",
            Self::Flip(_) => "flip",
            Self::Short(_) => "short",
            Self::Less(_) => "less",
            Self::Longer(_) => "longer",
            Self::WrongRange => "wrong_range",
            Self::Whole => "whole",
            Self::Expired => "expired",
            Self::Page => "page",
        }
    }
}

/// How often which fault happens: 0 is never, 1 always. What adds up to more than 1 is cut off. What is about a body's
/// bytes happens to the CDN's answers only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// 500, 502 or 503.
    pub status: f64,
    /// 429 with `Retry-After: 0`.
    pub too_many: f64,
    /// A cut before the answer.
    pub cut_before: f64,
    /// A cut in the body, anywhere in its first `within` bytes.
    pub cut: f64,
    /// A byte is another one, anywhere in the first `within` bytes.
    pub flip: f64,
    /// The end does not come.
    pub short: f64,
    /// Fewer bytes than the range has are announced and sent.
    pub less: f64,
    /// More bytes come than were asked for.
    pub longer: f64,
    /// Another range comes than was asked for.
    pub wrong_range: f64,
    /// The whole file comes.
    pub whole: f64,
    /// The link has expired.
    pub expired: f64,
    /// A page of HTML comes.
    pub page: f64,
    /// Nothing comes for `stall_ms` after up to `within` bytes.
    pub stall: f64,
    /// How long a stall takes.
    pub stall_ms: u64,
    /// How far into a body a fault may happen; 0 stands for 1 MiB.
    pub within: u64,
}

#[derive(Debug)]
struct Scripted {
    kind: Kind,
    /// What the request's path must contain.
    path: String,
    fault: Fault,
}

#[derive(Debug)]
pub struct Faults {
    random: Random,
    rates: Rates,
    script: Vec<Scripted>,
    pub injected: BTreeMap<&'static str, u64>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            rates: Rates::default(),
            script: Vec::new(),
            injected: BTreeMap::new(),
        }
    }

    pub fn set(&mut self, rates: Rates) {
        self.rates = rates;
    }

    pub fn script(&mut self, kind: Kind, path: &str, faults: impl IntoIterator<Item = Fault>) {
        let scripted = faults.into_iter().map(|fault| Scripted {
            kind,
            path: path.to_owned(),
            fault,
        });
        self.script.extend(scripted);
    }

    pub fn forget(&mut self) {
        self.rates = Rates::default();
        self.script.clear();
    }

    /// What happens to the next request: scripted faults first.
    pub fn draw(&mut self, kind: Kind, path: &str) -> Option<Fault> {
        let due = |scripted: &Scripted| scripted.kind == kind && path.contains(&scripted.path);
        let at = self.script.iter().position(due);
        let scripted = at.map(|at| self.script.remove(at).fault);
        let fault = scripted.or_else(|| self.by_rate(kind))?;
        *self.injected.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    fn by_rate(&mut self, kind: Kind) -> Option<Fault> {
        let rates = self.rates;
        if rates == Rates::default() {
            return None;
        }
        let bytes = |rate: f64| if kind == Kind::Cdn { rate } else { 0.0 };
        let within = if rates.within == 0 {
            1 << 20
        } else {
            rates.within
        };
        let status = [500, 502, 503][self.random.below(3) as usize];
        let at = self.random.below(within);
        let few = 1 + self.random.below(16);
        let too_many = Fault::TooMany {
            retry_after: Some(0),
            reset: None,
        };
        let stall = Fault::Stall {
            after: at,
            ms: rates.stall_ms,
        };
        let choices = [
            (rates.status, Fault::Status(status)),
            (rates.too_many, too_many),
            (rates.cut_before, Fault::CutBefore),
            (bytes(rates.cut), Fault::Cut(at)),
            (bytes(rates.flip), Fault::Flip(at)),
            (bytes(rates.short), Fault::Short(few)),
            (bytes(rates.less), Fault::Less(few)),
            (bytes(rates.longer), Fault::Longer(few)),
            (bytes(rates.wrong_range), Fault::WrongRange),
            (bytes(rates.whole), Fault::Whole),
            (bytes(rates.expired), Fault::Expired),
            (bytes(rates.page), Fault::Page),
            (bytes(rates.stall), stall),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_comes_first_and_the_seed_decides_the_rest() {
        let draw = |seed| {
            let mut faults = Faults::new(seed);
            faults.script(Kind::Cdn, "two", [Fault::Cut(3)]);
            faults.set(Rates {
                status: 0.2,
                flip: 0.2,
                ..Rates::default()
            });
            let drawn = (0..100).map(|_| faults.draw(Kind::Cdn, "/one"));
            let mut drawn: Vec<_> = drawn.collect();
            drawn.push(faults.draw(Kind::Cdn, "/two"));
            drawn
        };
        let first = draw(7);
        assert_eq!(first.last().unwrap(), &Some(Fault::Cut(3)));
        assert_eq!(first, draw(7));
        assert_ne!(first, draw(8));
        let flips = first.iter().flatten().filter(|f| f.name() == "flip");
        assert!((8..35).contains(&flips.count()), "{first:?}");
    }

    #[test]
    fn faults_of_bytes_spare_the_api() {
        let mut faults = Faults::new(1);
        faults.set(Rates {
            cut: 1.0,
            ..Rates::default()
        });
        assert_eq!(faults.draw(Kind::Api, "/"), None);
        assert_eq!(faults.draw(Kind::Cdn, "/").unwrap().name(), "cut");
    }
}
