//! What the platform says through its variables, read once. They are the platform's own and no settings of a user's, which
//! is why they are not in `config`.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use super::fitness::Checks;
use super::template::{Place, Template};

/// The environment, as names and values.
pub type Variables = BTreeMap<String, String>;

const GET_JOB: &str = "RUNPOD_WEBHOOK_GET_JOB";
const POST_OUTPUT: &str = "RUNPOD_WEBHOOK_POST_OUTPUT";
const POST_STREAM: &str = "RUNPOD_WEBHOOK_POST_STREAM";
const PING: &str = "RUNPOD_WEBHOOK_PING";
const PING_INTERVAL: &str = "RUNPOD_PING_INTERVAL";
const POD_ID: &str = "RUNPOD_POD_ID";
const INIT_TIMEOUT: &str = "RUNPOD_INIT_TIMEOUT";

/// The SDK's default between two heartbeats.
const USUAL_PING_INTERVAL: Duration = Duration::from_secs(10);
/// After this the platform calls a worker unhealthy that has not begun to take jobs, unless RUNPOD_INIT_TIMEOUT says more.
const USUAL_INIT_TIMEOUT: Duration = Duration::from_secs(7 * 60);

/// Everything that the platform tells a queue worker.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where jobs come from.
    pub(super) take: Template,
    /// Where several come from at once.
    pub(super) take_batch: Option<Template>,
    /// Where it is told which jobs are to be stopped.
    pub(super) stop: Option<Template>,
    /// Where results and progress go.
    pub(super) output: Template,
    /// Where chunks go.
    pub(super) stream: Option<Template>,
    /// The heart's address; only a worker that the platform can recognise has one.
    pub(super) ping: Option<Template>,
    pub(super) ping_interval: Duration,
    /// Sent as it is.
    pub(super) api_key: Option<SecretString>,
    /// The pod's id, or a made-up one.
    pub(super) worker_id: String,
    pub(super) hostname: String,
    pub(super) init_timeout: Duration,
    pub(super) checks: Checks,
}

/// A variable of the platform's that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// It is needed and not there.
    #[error(
        "{name} is not set, and a RunPod queue worker needs it; the platform sets it beside {GET_JOB}"
    )]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// It says something that does not make sense.
    #[error("{name} is `{value}`: {wanted}")]
    Invalid {
        /// Which.
        name: &'static str,
        /// What it says.
        value: String,
        /// What would do.
        wanted: &'static str,
    },
    /// The key cannot be a header; it is not shown.
    #[error("RUNPOD_AI_API_KEY holds a character that no HTTP header can hold")]
    Key,
    /// The HTTP client did not come to be.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
}

impl Environment {
    /// Reads it.
    ///
    /// # Errors
    /// The first variable that is missing or makes no sense.
    pub fn read(variables: &Variables) -> Result<Self, EnvironmentError> {
        let pod = text(variables, POD_ID);
        let worker_id = pod.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        let place = Place {
            worker: &worker_id,
            gpu: text(variables, "RUNPOD_GPU_TYPE_ID"),
        };
        let address = |name| address(variables, name);
        let missing = |name| EnvironmentError::Missing { name };
        let take = address(GET_JOB)?.ok_or(missing(GET_JOB))?;
        let take = Template::of_worker(take, place);
        let output = address(POST_OUTPUT)?.ok_or(missing(POST_OUTPUT))?;
        let api_key = text(variables, "RUNPOD_AI_API_KEY").map(SecretString::from);
        // As the SDK has it: without a key or a pod's id nobody would know whose heart it is.
        let known = api_key.is_some() && pod.is_some();
        let ping = address(PING)?.filter(|_| known);
        let interval = number(variables, PING_INTERVAL, "give milliseconds, such as 10000")?;
        let init = number(variables, INIT_TIMEOUT, "give seconds, such as 800")?;
        Ok(Self {
            take_batch: take.with_segment("/job-take/", "/job-take-batch/"),
            stop: take.with_segment("/job-take/", "/job-stop/"),
            take,
            output: Template::of_jobs(output, place),
            stream: address(POST_STREAM)?.map(|text| Template::of_jobs(text, place)),
            ping: ping.map(|text| Template::of_worker(text, place)),
            // Why not below 100 ms: a heart that beats all the time would be a load of its own.
            ping_interval: interval.map_or(USUAL_PING_INTERVAL, |ms| {
                Duration::from_secs_f64((ms / 1000.0).max(0.1))
            }),
            api_key,
            hostname: text(variables, "RUNPOD_POD_HOSTNAME")
                .unwrap_or("unknown")
                .to_owned(),
            init_timeout: init.map_or(USUAL_INIT_TIMEOUT, Duration::from_secs_f64),
            checks: Checks {
                skipped: truthy(variables, "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"),
                memory_gib: number(variables, "RUNPOD_MIN_MEMORY_GB", "give GB, such as 4.0")?
                    .unwrap_or(Checks::MEMORY_GIB),
                disk_percent: number(
                    variables,
                    "RUNPOD_MIN_DISK_PERCENT",
                    "give a percentage, such as 10",
                )?
                .unwrap_or(Checks::DISK_PERCENT),
                network: number(
                    variables,
                    "RUNPOD_NETWORK_CHECK_TIMEOUT",
                    "give seconds, such as 5",
                )?
                .map_or(Checks::NETWORK, Duration::from_secs_f64),
            },
            worker_id,
        })
    }

    /// The id under which the platform knows this worker.
    pub fn worker_id(&self) -> &str {
        &self.worker_id
    }
}

fn text<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
    let text = variables.get(name)?.trim();
    (!text.is_empty()).then_some(text)
}

fn truthy(variables: &Variables, name: &str) -> bool {
    text(variables, name)
        .is_some_and(|text| ["true", "1", "yes"].contains(&text.to_ascii_lowercase().as_str()))
}

fn address<'a>(
    variables: &'a Variables,
    name: &'static str,
) -> Result<Option<&'a str>, EnvironmentError> {
    let Some(text) = text(variables, name) else {
        return Ok(None);
    };
    let good = reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if good {
        return Ok(Some(text));
    }
    Err(EnvironmentError::Invalid {
        name,
        value: text.to_owned(),
        wanted: "give an address that begins with http:// or https://",
    })
}

/// Anything that a `Duration` can hold, which is more than any of these makes sense for.
fn number(
    variables: &Variables,
    name: &'static str,
    wanted: &'static str,
) -> Result<Option<f64>, EnvironmentError> {
    let Some(text) = text(variables, name) else {
        return Ok(None);
    };
    match text.parse::<f64>() {
        Ok(number) if (0.0..1e12).contains(&number) => Ok(Some(number)),
        _ => Err(EnvironmentError::Invalid {
            name,
            value: text.to_owned(),
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    const QUEUE: [(&str, &str); 5] = [
        (GET_JOB, "http://h/v2/e/job-take/$ID?gpu=x"),
        (
            POST_OUTPUT,
            "http://h/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
        ),
        (PING, "http://h/v2/e/ping/$RUNPOD_POD_ID"),
        ("RUNPOD_AI_API_KEY", "hush"),
        (POD_ID, "w1"),
    ];

    #[test]
    fn a_queue_worker_knows_its_addresses_and_hides_its_key() {
        let environment = Environment::read(&variables(&QUEUE)).unwrap();
        assert_eq!(
            environment.take.url("", &[]),
            "http://h/v2/e/job-take/w1?gpu=x"
        );
        let stop = environment.stop.as_ref().unwrap();
        assert_eq!(stop.url("", &[]), "http://h/v2/e/job-stop/w1?gpu=x");
        assert_eq!(environment.ping_interval, Duration::from_secs(10));
        assert_eq!(environment.init_timeout, Duration::from_secs(420));
        assert!(environment.ping.is_some());
        assert!(!format!("{environment:?}").contains("hush"));
    }

    #[test]
    fn without_a_key_or_a_pods_id_there_is_no_heartbeat() {
        for left_out in ["RUNPOD_AI_API_KEY", POD_ID] {
            let mut some = variables(&QUEUE);
            some.remove(left_out);
            assert!(
                Environment::read(&some).unwrap().ping.is_none(),
                "{left_out}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let says = |name: &str, value: &str| {
            let mut all = variables(&QUEUE);
            all.insert(name.to_owned(), value.to_owned());
            Environment::read(&all).unwrap_err().to_string()
        };
        assert!(says(POST_OUTPUT, "").starts_with("RUNPOD_WEBHOOK_POST_OUTPUT is not set"));
        assert_eq!(
            says(PING_INTERVAL, "soon"),
            "RUNPOD_PING_INTERVAL is `soon`: give milliseconds, such as 10000"
        );
        assert!(says(PING, "ping").contains("begins with http://"));
        assert!(says(INIT_TIMEOUT, "-1").contains("give seconds"));
    }
}
