//! What is counted over all requests of a run, and the report made of it. Sums and bucketed series only: a run of a million
//! requests takes no more memory than one of a hundred.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::finding::Endpoint;
use super::load::Plan;
use super::outcome::{Failure, FailureKind, Success};
use super::series::{Series, rounded};
use crate::catalog::{Benchmark, Spread};

/// Times are kept in microseconds.
const MICROS_OF_A_MILLI: f64 = 1000.0;
/// Rates are kept in thousandths.
const THOUSANDTHS: f64 = 1000.0;

/// The counts of a run so far.
#[derive(Debug, Default)]
pub struct Figures {
    requests: u64,
    retries: u64,
    errors: BTreeMap<FailureKind, Trouble>,
    latency: Series,
    first: Series,
    gaps: Series,
    delay: Series,
    execution: Series,
    prompt_tokens: Amount,
    tokens: Amount,
    steps: Amount,
    audio: Amount,
    pub(super) wall: Duration,
    pub(super) peak: u64,
    pub(super) interrupted: bool,
}

/// How often something went wrong, and what was said the first time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trouble {
    /// How often.
    pub count: u64,
    /// In the endpoint's words.
    pub example: String,
}

/// Something that is done at a rate, told by some answers.
#[derive(Debug, Default)]
struct Amount {
    sum: f64,
    told: u64,
    /// Each request's own rate.
    rates: Series,
}

impl Amount {
    fn add(&mut self, amount: Option<f64>, within: Duration) {
        let Some(amount) = amount else { return };
        self.sum += amount;
        self.told += 1;
        let seconds = within.as_secs_f64();
        if seconds > 0.0 {
            self.rates.add((amount / seconds * THOUSANDTHS) as u64);
        }
    }

    /// The sum, where every answer had its part in it: a sum of some would pass for one of all.
    fn whole(&self, answers: u64) -> Option<f64> {
        (answers > 0 && self.told == answers).then_some(self.sum)
    }
}

impl Figures {
    /// Takes what became of one more request.
    pub(super) fn add(&mut self, outcome: Result<Success, Failure>) {
        self.requests += 1;
        let success = match outcome {
            Ok(success) => success,
            Err(failure) => {
                let trouble = self.errors.entry(failure.kind).or_default();
                if trouble.count == 0 {
                    trouble.example = failure.message;
                }
                trouble.count += 1;
                return;
            }
        };
        let latency = success.latency;
        self.retries += success.retries;
        self.latency.add(micros(latency));
        let times = [
            (&mut self.first, success.first),
            (&mut self.delay, success.delay),
            (&mut self.execution, success.execution),
        ];
        for (series, time) in times {
            if let Some(time) = time {
                series.add(micros(time));
            }
        }
        for gap in success.gaps {
            self.gaps.add(micros(gap));
        }
        let number = |count: Option<u64>| count.map(|count| count as f64);
        self.prompt_tokens
            .add(number(success.prompt_tokens), latency);
        self.tokens.add(number(success.completion_tokens), latency);
        self.steps.add(number(success.steps), latency);
        self.audio.add(success.audio_s, latency);
    }

    fn failed(&self) -> u64 {
        self.errors.values().map(|trouble| trouble.count).sum()
    }

    /// The report of a run.
    pub fn run(&self, plan: &Plan) -> Run {
        let (failed, seconds) = (self.failed(), self.wall.as_secs_f64());
        let succeeded = self.requests - failed;
        let rate = |sum: Option<f64>| {
            sum.filter(|_| seconds > 0.0)
                .map(|sum| rounded(sum / seconds))
        };
        let times = |series: &Series| series.spread(MICROS_OF_A_MILLI);
        let whole = |amount: &Amount| amount.whole(succeeded);
        let each = |amount: &Amount| {
            amount
                .rates
                .spread(THOUSANDTHS)
                .filter(|_| whole(amount).is_some())
        };
        let count = |amount: &Amount| whole(amount).map(|sum| sum as u64);
        let labelled = self
            .errors
            .iter()
            .map(|(kind, trouble)| (kind.label(), trouble.clone()));
        Run {
            concurrency: match plan.rate {
                Some(_) => self.peak,
                None => plan.concurrency as u64,
            },
            rate: plan.rate,
            requests: self.requests,
            succeeded,
            failed,
            errors: labelled.collect(),
            retries: self.retries,
            interrupted: self.interrupted,
            duration_s: micros(self.wall) as f64 / 1e6,
            requests_per_s: rate(Some(succeeded as f64)).unwrap_or_default(),
            latency_ms: times(&self.latency),
            ttft_ms: times(&self.first),
            inter_token_ms: times(&self.gaps),
            prompt_tokens: count(&self.prompt_tokens),
            completion_tokens: count(&self.tokens),
            tokens_per_s: rate(whole(&self.tokens)),
            tokens_per_s_each: each(&self.tokens),
            steps_per_s: rate(whole(&self.steps)),
            steps_per_s_each: each(&self.steps),
            audio_s_per_s: rate(whole(&self.audio)),
            audio_s_per_s_each: each(&self.audio),
            delay_ms: times(&self.delay),
            execution_ms: times(&self.execution),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The figures of one run. What no answer told is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Requests that were under way at once; of an open loop, at most.
    pub concurrency: u64,
    /// Requests that were begun a second, of an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Requests that came to an end.
    pub requests: u64,
    /// Those that were answered.
    pub succeeded: u64,
    /// Those that were not.
    pub failed: u64,
    /// Why, and how often.
    pub errors: BTreeMap<String, Trouble>,
    /// Attempts that were told to come back later.
    pub retries: u64,
    /// Whether somebody ended the run before its time.
    pub interrupted: bool,
    /// From the first request to the last answer, in seconds.
    pub duration_s: f64,
    /// Answers a second.
    pub requests_per_s: f64,
    /// From the moment a request was due to the last byte of its answer, in milliseconds.
    pub latency_ms: Option<Spread>,
    /// To the first token, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Spread>,
    /// Between one piece of a stream and the next, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inter_token_ms: Option<Spread>,
    /// Tokens read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Tokens written a second, of all requests together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// The same of each request, over its latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s_each: Option<Spread>,
    /// Denoising steps a second, of all requests together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_s: Option<f64>,
    /// The same of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_s_each: Option<Spread>,
    /// Seconds of sound heard a second, of all requests together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_s_per_s: Option<f64>,
    /// The same of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_s_per_s_each: Option<Spread>,
    /// What RunPod says that jobs waited, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<Spread>,
    /// What RunPod says that jobs took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_ms: Option<Spread>,
}

/// All runs against one endpoint, and what they were.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When the first began: RFC 3339, in UTC.
    pub date: String,
    /// The command, without secrets.
    pub command: String,
    /// Scheme, host and port.
    pub endpoint: String,
    /// How it was asked.
    pub endpoint_kind: &'static str,
    /// What its model does.
    pub task: &'static str,
    /// The model's name, where it is known.
    pub model: Option<String>,
    /// What it runs on, where somebody said.
    pub hardware: Option<String>,
    /// Version of this program.
    pub chandler_version: String,
    /// One for each concurrency.
    pub runs: Vec<Run>,
}

impl Report {
    /// A report that has no run yet.
    pub fn new(endpoint: &Endpoint, command: String, version: &str) -> Self {
        Self {
            date: crate::calendar::rfc3339(std::time::SystemTime::now()),
            command,
            endpoint: endpoint.place(),
            endpoint_kind: endpoint.kind_name(),
            task: endpoint.task.tag(),
            model: endpoint.model.clone(),
            hardware: None,
            chandler_version: version.to_owned(),
            runs: Vec::new(),
        }
    }

    /// The runs as a template keeps them: those that had an answer and came to their end.
    pub fn benchmarks(&self) -> Vec<Benchmark> {
        let whole = self.runs.iter().filter(|run| !run.interrupted);
        let kept = whole.filter_map(|run| {
            Some(Benchmark {
                date: self.date.clone(),
                command: self.command.clone(),
                endpoint_kind: self.endpoint_kind.to_owned(),
                requests: run.requests,
                concurrency: run.concurrency.max(1),
                duration_s: run.duration_s,
                latency_ms: run.latency_ms?,
                ttft_ms: run.ttft_ms,
                tokens_per_s: run.tokens_per_s,
                steps_per_s: run.steps_per_s,
                audio_s_per_s: run.audio_s_per_s,
                errors: run.failed,
                chandler_version: self.chandler_version.clone(),
                hardware: self.hardware.clone(),
            })
        });
        kept.collect()
    }
}
