//! One benchmark result of a template, as `chandler bench --record` writes it into a user's file. Apart from the template
//! because it is written by a program and read back, where everything else here is written by people.

use serde::{Deserialize, Serialize};

/// What one run of `chandler bench` measured, in the words of its own report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benchmark {
    /// When the run began: RFC 3339, in UTC.
    pub date: String,
    /// The command that was run, without secrets.
    pub command: String,
    /// Which front door was asked, such as `openai-chat`, `generate`, `predict` or `runpod`.
    pub endpoint_kind: String,
    /// Requests that were measured; those of the warm-up are not among them.
    pub requests: u64,
    /// Requests that were under way at once.
    pub concurrency: u64,
    /// Wall time of the measured requests together, in seconds.
    pub duration_s: f64,
    /// From sending a request to the last byte of its answer, in milliseconds, of requests that succeeded.
    pub latency_ms: Spread,
    /// From sending a request to the first token of its answer, in milliseconds, where the answers were streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Spread>,
    /// Tokens written a second, of all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// Denoising steps a second, of all pictures together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_s: Option<f64>,
    /// Seconds of sound transcribed a second, of all requests together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_s_per_s: Option<f64>,
    /// Requests, among `requests`, that failed.
    pub errors: u64,
    /// Version of the program that measured.
    pub chandler_version: String,
    /// What the endpoint ran on: a hardware card's id, or the endpoint's own word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
}

/// How a measured number is spread over the requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// Nine requests of ten stay under it.
    pub p90: f64,
    /// 99 of a hundred stay under it.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
}

impl Benchmark {
    /// Checks that its numbers are possible ones, so that an edited file is not believed.
    ///
    /// # Errors
    /// What does not agree.
    pub fn check(&self) -> Result<(), String> {
        if self.requests == 0 {
            return Err("requests is 0; a benchmark measures at least one".to_owned());
        }
        if self.concurrency == 0 {
            return Err("concurrency is 0; one request at a time is 1".to_owned());
        }
        if self.errors > self.requests {
            let (errors, requests) = (self.errors, self.requests);
            return Err(format!("errors is {errors} of {requests} requests"));
        }
        self.latency_ms.check("latency_ms")?;
        if let Some(ttft) = self.ttft_ms {
            ttft.check("ttft_ms")?;
        }
        let rates = [
            ("duration_s", Some(self.duration_s)),
            ("tokens_per_s", self.tokens_per_s),
            ("steps_per_s", self.steps_per_s),
            ("audio_s_per_s", self.audio_s_per_s),
        ];
        rates
            .into_iter()
            .filter_map(|(name, number)| Some((name, number?)))
            .try_for_each(|(name, number)| measured(name, number))
    }
}

impl Spread {
    fn check(&self, name: &str) -> Result<(), String> {
        for number in [self.p50, self.p90, self.p99, self.mean] {
            measured(name, number)?;
        }
        if self.p50 > self.p90 || self.p90 > self.p99 {
            let Self { p50, p90, p99, .. } = self;
            return Err(format!(
                "{name} has p50 {p50}, p90 {p90} and p99 {p99}; each is at least the one before"
            ));
        }
        Ok(())
    }
}

fn measured(name: &str, number: f64) -> Result<(), String> {
    if number.is_finite() && number >= 0.0 {
        Ok(())
    } else {
        Err(format!(
            "{name} is {number}; a measured number is 0 or more"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = r#"
date = "2026-11-22T10:00:00Z"
command = "chandler bench http://127.0.0.1:8080 --requests 32 --concurrency 4"
endpoint_kind = "openai-chat"
requests = 32
concurrency = 4
duration_s = 12.5
tokens_per_s = 81.9
errors = 1
chandler_version = "0.1.0"

[latency_ms]
p50 = 1480.0
p90 = 1610.5
p99 = 1702.0
mean = 1502.25
"#;

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let read: Benchmark = toml::from_str(WRITTEN).unwrap();
        read.check().unwrap();
        let again: Benchmark = toml::from_str(&toml::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
        let json = serde_json::to_string(&read).unwrap();
        assert!(!json.contains("ttft_ms"), "{json}");
        assert_eq!(serde_json::from_str::<Benchmark>(&json).unwrap(), read);
    }

    #[test]
    fn unknown_fields_and_impossible_numbers_are_refused() {
        let unknown = WRITTEN.replace("errors = 1", "errors = 1\nfailed = 1");
        let error = toml::from_str::<Benchmark>(&unknown).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");

        let refused = |from: &str, to: &str| {
            let text = WRITTEN.replace(from, to);
            toml::from_str::<Benchmark>(&text)
                .unwrap()
                .check()
                .unwrap_err()
        };
        assert!(refused("errors = 1", "errors = 33").contains("33 of 32"));
        assert!(refused("requests = 32", "requests = 0").contains("requests is 0"));
        assert!(refused("p50 = 1480.0", "p50 = 1700.0").contains("p50 1700"));
        assert!(refused("duration_s = 12.5", "duration_s = -1.0").contains("duration_s is -1"));
    }
}
