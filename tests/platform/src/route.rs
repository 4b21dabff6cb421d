//! What a path means. Apart from the handlers, because the faults must know before a body is read.

use axum::http::Method;
use serde::{Deserialize, Serialize};

/// A worker's message, as far as the faults tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// job-take and job-take-batch.
    Take,
    /// job-stop.
    Stop,
    /// job-done: results and progress.
    Done,
    /// job-stream.
    Stream,
    /// ping.
    Ping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    Take {
        worker: &'a str,
        batch: bool,
    },
    Stop {
        worker: &'a str,
    },
    Done {
        worker: &'a str,
        job: &'a str,
    },
    Stream {
        worker: &'a str,
        job: &'a str,
    },
    Ping {
        worker: &'a str,
    },
    /// An operation of the client's side, and what follows it: `status`, `<job id>`.
    Client {
        operation: &'a str,
        rest: &'a str,
    },
    Control {
        what: &'a str,
    },
    OtherEndpoint,
    WrongMethod,
    Unknown,
}

impl<'a> Route<'a> {
    pub fn of(method: &Method, path: &'a str, endpoint: &str) -> Self {
        if let Some(what) = path.strip_prefix("/control/") {
            return Self::Control { what };
        }
        let Some((found, rest)) = path.strip_prefix("/v2/").and_then(|p| p.split_once('/')) else {
            return Self::Unknown;
        };
        if found != endpoint {
            return Self::OtherEndpoint;
        }
        let (operation, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (route, wanted) = match operation {
            "job-take" => (
                Self::Take {
                    worker: rest,
                    batch: false,
                },
                Method::GET,
            ),
            "job-take-batch" => (
                Self::Take {
                    worker: rest,
                    batch: true,
                },
                Method::GET,
            ),
            "job-stop" => (Self::Stop { worker: rest }, Method::GET),
            "ping" => (Self::Ping { worker: rest }, Method::GET),
            "job-done" | "job-stream" => {
                let Some((worker, job)) = rest.split_once('/') else {
                    return Self::Unknown;
                };
                let route = match operation {
                    "job-done" => Self::Done { worker, job },
                    _ => Self::Stream { worker, job },
                };
                (route, Method::POST)
            }
            "status" | "status-sync" | "stream" | "health" => {
                (Self::Client { operation, rest }, Method::GET)
            }
            "run" | "runsync" | "cancel" | "retry" | "purge-queue" => {
                (Self::Client { operation, rest }, Method::POST)
            }
            "openai" => return Self::Client { operation, rest },
            _ => return Self::Unknown,
        };
        if wanted == *method {
            route
        } else {
            Self::WrongMethod
        }
    }

    /// The kind of a worker's message.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Take { .. } => Some(Kind::Take),
            Self::Stop { .. } => Some(Kind::Stop),
            Self::Done { .. } => Some(Kind::Done),
            Self::Stream { .. } => Some(Kind::Stream),
            Self::Ping { .. } => Some(Kind::Ping),
            _ => None,
        }
    }
}

/// A parameter's value, as it stands in the query.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(found, value)| (found == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_meaning_each() {
        let get = |path| Route::of(&Method::GET, path, "e");
        let post = |path| Route::of(&Method::POST, path, "e");
        assert_eq!(
            get("/v2/e/job-take/w"),
            Route::Take {
                worker: "w",
                batch: false
            }
        );
        assert_eq!(
            get("/v2/e/job-take-batch/w"),
            Route::Take {
                worker: "w",
                batch: true
            }
        );
        assert_eq!(post("/v2/e/job-take/w"), Route::WrongMethod);
        assert_eq!(
            post("/v2/e/job-done/w/j-u1"),
            Route::Done {
                worker: "w",
                job: "j-u1"
            }
        );
        assert_eq!(post("/v2/e/job-done/w"), Route::Unknown);
        assert_eq!(get("/v2/f/health"), Route::OtherEndpoint);
        let route = post("/v2/e/openai/v1/chat/completions");
        assert_eq!(
            route,
            Route::Client {
                operation: "openai",
                rest: "v1/chat/completions"
            }
        );
        assert_eq!(get("/control/account"), Route::Control { what: "account" });
    }

    #[test]
    fn parameters_are_read_as_they_stand() {
        let query = "gpu=NVIDIA+RTX+A5000&batch_size=4&job_in_progress=0";
        assert_eq!(parameter(query, "gpu"), Some("NVIDIA+RTX+A5000"));
        assert_eq!(parameter(query, "batch_size"), Some("4"));
        assert_eq!(parameter(query, "size"), None);
    }
}
