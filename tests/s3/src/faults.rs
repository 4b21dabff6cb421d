//! What may go wrong, and when: rules that are tried in order, then a seeded rate.

use std::sync::Mutex;
use std::time::Duration;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The connection breaks after so many bytes of the body.
    Cut(u64),
    /// The body comes so fast: bytes per second.
    Slow(u64),
    /// Nothing more comes after so many bytes of the body, and the connection stays.
    Stall(u64),
    /// The answer takes so long to begin.
    Late(Duration),
    /// A refusal: status, S3's code, seconds of `Retry-After`.
    Refuse(u16, &'static str, Option<u64>),
    /// The body ends so many bytes early, and its length says so, while `Content-Range` does not.
    Short(u64),
    /// The byte at this place of the body is another.
    Wrong(u64),
    /// The whole object comes, whatever range was asked for.
    Whole,
    /// The store's error page, with status 200.
    Page,
}

/// Which requests are meant.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// `GET`.
    pub method: Option<&'static str>,
    /// A part of path and query.
    pub contains: Option<String>,
    /// Whether the address carries the signature.
    pub presigned: Option<bool>,
}

/// What goes wrong when.
#[derive(Debug, Clone)]
pub struct Rule {
    /// With which requests.
    pub on: Match,
    /// How many of them go well before.
    pub after: u32,
    /// How many of them go wrong; `None` is all.
    pub times: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// The next so many of these requests.
    pub fn next(times: u32, on: Match, fault: Fault) -> Self {
        let (after, times) = (0, Some(times));
        Self {
            on,
            after,
            times,
            fault,
        }
    }

    /// All of these requests.
    pub fn always(on: Match, fault: Fault) -> Self {
        let (after, times) = (0, None);
        Self {
            on,
            after,
            times,
            fault,
        }
    }
}

struct Rate {
    seed: u64,
    one_in: u64,
    faults: Vec<Fault>,
    number: u64,
}

/// What goes wrong with a server.
#[derive(Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    rate: Mutex<Option<Rate>>,
}

/// A request, as far as rules look at it.
pub(crate) struct Asked<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub presigned: bool,
    /// Whether it is for an object's bytes.
    pub object: bool,
}

impl Match {
    /// Reads of one object's bytes.
    pub fn reads(contains: &str) -> Self {
        Self {
            method: Some("GET"),
            contains: Some(contains.to_owned()),
            presigned: Some(true),
        }
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        self.method.is_none_or(|method| method == asked.method)
            && self
                .presigned
                .is_none_or(|presigned| presigned == asked.presigned)
            && self
                .contains
                .as_ref()
                .is_none_or(|part| asked.target.contains(part.as_str()))
    }
}

impl Faults {
    /// Another rule, behind those that there are.
    pub fn add(&self, rule: Rule) {
        self.rules.lock().unwrap().push(rule);
    }

    /// Of the reads of objects, one in so many gets one of the faults, chosen by the seed and the read's number.
    pub fn rate(&self, seed: u64, one_in: u64, faults: Vec<Fault>) {
        let number = 0;
        *self.rate.lock().unwrap() = Some(Rate {
            seed,
            one_in: one_in.max(1),
            faults,
            number,
        });
    }

    /// All goes well from now on.
    pub fn clear(&self) {
        self.rules.lock().unwrap().clear();
        *self.rate.lock().unwrap() = None;
    }

    pub(crate) fn choose(&self, asked: &Asked<'_>) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        for rule in rules.iter_mut().filter(|rule| rule.on.fits(asked)) {
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            match &mut rule.times {
                None => return Some(rule.fault.clone()),
                Some(0) => {}
                Some(times) => {
                    *times -= 1;
                    return Some(rule.fault.clone());
                }
            }
        }
        let mut rate = self.rate.lock().unwrap();
        let rate = rate.as_mut().filter(|_| asked.object)?;
        rate.number += 1;
        let number = mixed(rate.seed ^ mixed(rate.number));
        if rate.faults.is_empty() || !number.is_multiple_of(rate.one_in) {
            return None;
        }
        let which = mixed(number) % rate.faults.len() as u64;
        rate.faults.get(which as usize).cloned()
    }
}

/// splitmix64's last step: neighbouring numbers become unlike ones.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
