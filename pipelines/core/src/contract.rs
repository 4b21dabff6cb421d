//! The contract suite: what every pipeline promises, checked on the mock and on every model by the same code.
//! It drives a pipeline the way the engine does, with a fixed sequence of random choices, and panics with what was broken.

#![allow(clippy::panic, clippy::expect_used)] // Why: this is test code that other crates' tests call.

use std::collections::{BTreeMap, HashSet};

use crate::error::RequestError;
use crate::event::{Collected, Event, Events};
use crate::input::Input;
use crate::pipeline::{Activity, Admission, Footprint, Parked, Pipeline, RequestId, Ticket};
use crate::random::Stream;

/// A pipeline to check and requests to check it with.
pub struct Subject<'a, P> {
    /// Makes a fresh pipeline; every check starts with one.
    pub make: &'a dyn Fn() -> P,
    /// The request of a number: short, seeded, of mixed lengths and row counts.
    pub input: &'a dyn Fn(u64) -> Input,
    /// How many requests a check uses.
    pub requests: u64,
    /// Steps between two suspensions, at least 2: enough for the smallest piece of work that is not done again after one.
    pub suspend_every: u64,
}

/// Runs every check of the suite.
///
/// # Panics
/// When the pipeline breaks a promise.
pub fn check<P: Pipeline>(subject: &Subject<'_, P>) {
    let alone = answers_alone(subject);
    alone_equals_together(subject, &alone);
    one_terminal_event_under_random_cancels(subject, &alone);
    suspended_requests_go_on_where_they_stood(subject, &alone);
    a_reset_pipeline_serves_again(subject, &alone);
    a_parked_pipeline_comes_back_as_it_was(subject, &alone);
    no_growth(&mut (subject.make)(), subject.input, subject.requests * 4);
}

/// Runs the check of parking alone, each request by itself: for what rounds otherwise in company.
///
/// # Panics
/// When the pipeline has nothing to park, or breaks the promise.
pub fn check_parking<P: Pipeline>(subject: &Subject<'_, P>) {
    let parks = (subject.make)().parking_space();
    assert!(
        parks.is_some_and(|bytes| bytes > 0),
        "there is nothing to park"
    );
    a_parked_pipeline_comes_back_as_it_was(subject, &answers_alone(subject));
}

type Answer = Result<Collected, RequestError>;

/// Drives a pipeline and keeps its books.
struct Driver<'a, P: Pipeline> {
    pipeline: P,
    input: &'a dyn Fn(u64) -> Input,
    open: BTreeMap<RequestId, Collected>,
    ended: BTreeMap<RequestId, Answer>,
    silenced: HashSet<RequestId>,
}

impl<'a, P: Pipeline> Driver<'a, P> {
    fn new(pipeline: P, input: &'a dyn Fn(u64) -> Input) -> Self {
        Self {
            pipeline,
            input,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            silenced: HashSet::new(),
        }
    }

    /// Offers request `number`; `false` when there was no room.
    fn offer(&mut self, number: u64) -> bool {
        let prepared = self
            .pipeline
            .preparer()
            .prepare((self.input)(number))
            .expect("a contract input prepares");
        self.readmit(number, prepared)
    }

    fn readmit(&mut self, number: u64, prepared: P::Prepared) -> bool {
        match self.pipeline.admit(Ticket::new(number), prepared) {
            Admission::Taken => {
                self.open.entry(RequestId(number)).or_default();
                self.silenced.remove(&RequestId(number));
                true
            }
            Admission::Full(_) => false,
            Admission::Refused(error) => panic!("request {number} was refused: {error}"),
        }
    }

    fn step(&mut self) -> Activity {
        let mut events = Events::default();
        let step = self
            .pipeline
            .step(&mut events)
            .expect("a contract step works");
        let bound = self.pipeline.step_bound();
        assert!(
            step.work <= bound,
            "a step did {} units of at most {bound}",
            step.work
        );
        for (id, event) in events.drain() {
            self.take(id, event);
        }
        step.activity
    }

    fn take(&mut self, id: RequestId, event: Event) {
        assert!(
            !self.silenced.contains(&id),
            "request {id} spoke after it was taken out: {event:?}"
        );
        assert!(
            !self.ended.contains_key(&id),
            "request {id} spoke after its end: {event:?}"
        );
        let Some(collected) = self.open.get_mut(&id) else {
            panic!("an event came for request {id}, which was never admitted: {event:?}");
        };
        let answer = match collected.add(event) {
            Ok(false) => return,
            Ok(true) => Ok(collected.clone()),
            Err(error) => Err(error),
        };
        self.open.remove(&id);
        self.ended.insert(id, answer);
    }

    fn run_out(&mut self) {
        for _ in 0..1_000_000 {
            if self.step() == Activity::Idle {
                break;
            }
        }
        assert!(
            self.open.is_empty(),
            "requests without an end: {:?}",
            self.open.keys()
        );
        self.assert_empty();
    }

    fn assert_empty(&self) {
        let left = self.pipeline.occupancy();
        assert_eq!(
            (left.requests, left.rows),
            (0, 0),
            "an idle pipeline holds requests"
        );
    }
}

fn answers_alone<P: Pipeline>(subject: &Subject<'_, P>) -> BTreeMap<RequestId, Answer> {
    let mut driver = Driver::new((subject.make)(), subject.input);
    for number in 0..subject.requests {
        assert!(
            driver.offer(number),
            "an empty pipeline has no room for request {number}"
        );
        driver.run_out();
    }
    driver.ended
}

fn compare(alone: &BTreeMap<RequestId, Answer>, other: &BTreeMap<RequestId, Answer>, how: &str) {
    for (id, answer) in other {
        let expected = alone.get(id).expect("answered alone too");
        match (expected, answer) {
            (Ok(a), Ok(b)) => {
                assert_eq!(
                    a.rows.len(),
                    b.rows.len(),
                    "request {id}: rows differ {how}"
                );
                for (row, (x, y)) in a.rows.iter().zip(&b.rows).enumerate() {
                    assert_eq!(x.text, y.text, "request {id} row {row}: text differs {how}");
                    let ids = |r: &crate::event::RowOutput| {
                        r.tokens.iter().map(|t| t.id).collect::<Vec<_>>()
                    };
                    assert_eq!(
                        ids(x),
                        ids(y),
                        "request {id} row {row}: tokens differ {how}"
                    );
                    assert_eq!(
                        x.finish, y.finish,
                        "request {id} row {row}: the end differs {how}"
                    );
                }
                assert_eq!(
                    a.transcript, b.transcript,
                    "request {id}: the transcript differs {how}"
                );
                assert_eq!(
                    (a.usage.prompt_tokens, a.usage.completion_tokens),
                    (b.usage.prompt_tokens, b.usage.completion_tokens),
                    "request {id}: usage differs {how}"
                );
            }
            (a, b) => assert_eq!(a, b, "request {id} ended differently {how}"),
        }
    }
}

/// Requests that join a full house, one every step, answer as they did alone.
fn alone_equals_together<P: Pipeline>(
    subject: &Subject<'_, P>,
    alone: &BTreeMap<RequestId, Answer>,
) {
    let mut driver = Driver::new((subject.make)(), subject.input);
    let mut next = 0;
    while next < subject.requests {
        if driver.offer(next) {
            next += 1;
        }
        driver.step();
    }
    driver.run_out();
    assert_eq!(driver.ended.len() as u64, subject.requests);
    compare(alone, &driver.ended, "in company");
}

/// Random admits and cancels: the cancelled stay silent, everyone else ends once and as alone.
fn one_terminal_event_under_random_cancels<P: Pipeline>(
    subject: &Subject<'_, P>,
    alone: &BTreeMap<RequestId, Answer>,
) {
    let dice = Stream::new(11, 0);
    let mut driver = Driver::new((subject.make)(), subject.input);
    let (mut next, mut turn, mut cancelled) = (0, 0, 0);
    while next < subject.requests {
        turn += 1;
        match (dice.uniform(turn) * 10.0) as u32 {
            0..=4 => next += u64::from(driver.offer(next)),
            5 => {
                let open: Vec<RequestId> = driver.open.keys().copied().collect();
                let pick = (dice.uniform(turn + 1_000_000) * open.len() as f64) as usize;
                if let Some(id) = open.get(pick).copied() {
                    driver.pipeline.cancel(id);
                    driver.open.remove(&id);
                    driver.silenced.insert(id);
                    cancelled += 1;
                }
            }
            _ => {
                driver.step();
            }
        }
    }
    driver.run_out();
    assert!(
        cancelled > 0,
        "the sequence never cancelled; use more requests"
    );
    assert_eq!(driver.ended.len() as u64 + cancelled, subject.requests);
    driver.pipeline.cancel(RequestId(u64::MAX));
    compare(alone, &driver.ended, "beside cancelled ones");
}

/// A request taken out and put back, again and again, answers as if it had stayed.
fn suspended_requests_go_on_where_they_stood<P: Pipeline>(
    subject: &Subject<'_, P>,
    alone: &BTreeMap<RequestId, Answer>,
) {
    let mut driver = Driver::new((subject.make)(), subject.input);
    let mut next = 0;
    let mut out: Vec<(u64, P::Prepared)> = Vec::new();
    let every = subject.suspend_every.max(2);
    let mut turn = 0u64;
    let mut suspended = 0;
    while next < subject.requests || !driver.open.is_empty() || !out.is_empty() {
        turn += 1;
        assert!(turn < 1_000_000, "suspended requests never end");
        if next < subject.requests && driver.offer(next) {
            next += 1;
        }
        driver.step();
        if turn.is_multiple_of(every)
            && let Some(id) = driver.open.keys().copied().nth((turn % 5) as usize)
            && let Some(prepared) = driver.pipeline.suspend(id)
        {
            driver.silenced.insert(id);
            out.push((id.0, prepared));
            suspended += 1;
        } else if turn % every == 1
            && let Some((number, prepared)) = out.pop()
        {
            readmit_when_there_is_room(&mut driver, number, prepared);
        }
    }
    assert!(
        suspended > 0,
        "the sequence never suspended; use more requests"
    );
    driver.run_out();
    compare(alone, &driver.ended, "after it was suspended");
}

fn readmit_when_there_is_room<P: Pipeline>(
    driver: &mut Driver<'_, P>,
    number: u64,
    prepared: P::Prepared,
) {
    let mut held = Some(prepared);
    while let Some(prepared) = held.take() {
        match driver.pipeline.admit(Ticket::new(number), prepared) {
            Admission::Taken => {
                driver.silenced.remove(&RequestId(number));
            }
            Admission::Full(back) => {
                driver.step();
                held = Some(back);
            }
            Admission::Refused(error) => {
                panic!("request {number} was refused on its return: {error}")
            }
        }
    }
}

/// After a reset the pipeline is as good as new.
fn a_reset_pipeline_serves_again<P: Pipeline>(
    subject: &Subject<'_, P>,
    alone: &BTreeMap<RequestId, Answer>,
) {
    let mut driver = Driver::new((subject.make)(), subject.input);
    let members: Vec<u64> = (0..subject.requests.min(4))
        .filter(|n| driver.offer(*n))
        .collect();
    driver.step();
    let mut held = Vec::new();
    for number in members {
        if let Some(prepared) = driver.pipeline.suspend(RequestId(number)) {
            held.push((number, prepared));
        }
    }
    driver.assert_empty();
    driver.pipeline.reset().expect("a healthy pipeline resets");
    for (number, prepared) in held {
        readmit_when_there_is_room(&mut driver, number, prepared);
    }
    driver.run_out();
    compare(alone, &driver.ended, "after a reset");
}

/// Parked in part it serves; parked wholly it has given up memory, and serves after it was woken. Whoever cannot be parked says so.
fn a_parked_pipeline_comes_back_as_it_was<P: Pipeline>(
    subject: &Subject<'_, P>,
    alone: &BTreeMap<RequestId, Answer>,
) {
    let mut driver = Driver::new((subject.make)(), subject.input);
    driver.pipeline.wake().expect("who is awake can be woken");
    if driver.pipeline.parking_space().is_none() {
        assert!(
            driver.pipeline.park().is_err(),
            "it has nothing to park and parks"
        );
        return;
    }
    let before = driver.pipeline.footprint();
    for number in 0..subject.requests.min(6) {
        assert!(driver.offer(number), "request {number} finds no room");
        driver.run_out();
        match number % 3 {
            // A piece and then a request, unless it was the last piece; otherwise all of it.
            0 => {
                let parked = driver.pipeline.park().expect("an idle pipeline parks");
                if parked == Parked::Wholly {
                    driver.pipeline.wake().expect("a parked pipeline wakes");
                }
            }
            _ => park_and_wake(&mut driver.pipeline, before),
        }
    }
    compare(alone, &driver.ended, "after it was parked");
}

fn park_and_wake<P: Pipeline>(pipeline: &mut P, before: Footprint) {
    let mut pieces = 0;
    while pipeline.park().expect("an idle pipeline parks") == Parked::Partly {
        pieces += 1;
        assert!(pieces < 1_000_000, "parking never ends");
    }
    let again = pipeline.park().expect("a parked pipeline stays so");
    assert_eq!(again, Parked::Wholly);
    let mut events = Events::default();
    let step = pipeline.step(&mut events).expect("nothing is inside");
    assert_eq!(step.activity, Activity::Idle);
    assert_eq!(pipeline.parking_space(), Some(0), "all of it is kept");
    let parked = pipeline.footprint();
    assert!(
        parked.device_bytes < before.device_bytes || before.device_bytes == 0,
        "parking gave nothing up: {parked:?}"
    );
    pipeline.wake().expect("a parked pipeline wakes");
    assert_eq!(pipeline.footprint().device_bytes, before.device_bytes);
}

/// Many requests, some cancelled: nothing is left behind, on the device or in the cache.
///
/// # Panics
/// When the footprint, or what is occupied, has grown.
pub fn no_growth<P: Pipeline>(pipeline: &mut P, input: &dyn Fn(u64) -> Input, requests: u64) {
    let preparer = pipeline.preparer();
    let mut baseline = None;
    let mut events = Events::default();
    let mut next = 0;
    let mut terminal = 0u64;
    let mut cancelled = 0u64;
    while next < requests {
        let prepared = preparer
            .prepare(input(next % 64))
            .expect("a contract input prepares");
        if matches!(
            pipeline.admit(Ticket::new(next), prepared),
            Admission::Taken
        ) {
            if next % 7 == 3 {
                pipeline.cancel(RequestId(next));
                cancelled += 1;
            }
            next += 1;
        }
        pipeline.step(&mut events).expect("a contract step works");
        terminal += events.drain().filter(|(_, e)| e.is_terminal()).count() as u64;
        if next == 64 && baseline.is_none() {
            baseline = Some(pipeline.footprint());
        }
    }
    while pipeline
        .step(&mut events)
        .expect("a contract step works")
        .activity
        != Activity::Idle
    {}
    terminal += events.drain().filter(|(_, e)| e.is_terminal()).count() as u64;
    assert_eq!(terminal + cancelled, requests, "every request ends once");
    let left = pipeline.occupancy();
    assert_eq!(
        (left.requests, left.rows),
        (0, 0),
        "requests were left behind"
    );
    if let Some(baseline) = baseline {
        assert_eq!(
            pipeline.footprint(),
            baseline,
            "the footprint grew over {requests} requests"
        );
    }
}
