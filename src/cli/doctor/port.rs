//! Whether the port can be had; in a container that serves already, whether it is the worker that has it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use super::super::health::{self, ALIVE};
use super::finding::Finding;
use crate::config::Settings;

const GROUP: &str = "platform";
const PATIENCE: Duration = Duration::from_secs(2);

pub async fn check(settings: &Settings) -> Vec<Finding> {
    vec![port(settings).await.with("port", *settings.port)]
}

async fn port(settings: &Settings) -> Finding {
    let address = settings.address();
    let error = match TcpListener::bind(address) {
        Ok(_) if *settings.port == 0 => {
            return Finding::ok(GROUP, "port", "0: a free one is taken");
        }
        Ok(_) => return Finding::ok(GROUP, "port", format!("{address} is free")),
        Err(error) => error,
    };
    let problem = Finding::problem(
        GROUP,
        "port",
        format!("cannot listen on {address}: {error}"),
    );
    match error.kind() {
        ErrorKind::AddrInUse if alive(settings).await => Finding::ok(
            GROUP,
            "port",
            format!("{address}: a worker serves there already"),
        ),
        ErrorKind::AddrInUse => problem
            .mended_by("another program has it: choose another with --port, or 0 for any free one"),
        ErrorKind::PermissionDenied => {
            problem.mended_by("ports below 1024 need privileges: choose another with --port")
        }
        ErrorKind::AddrNotAvailable => {
            problem.mended_by("no interface of this machine has that address: see --host")
        }
        _ => problem.mended_by("choose another with --port or --host"),
    }
}

async fn alive(settings: &Settings) -> bool {
    match health::own(settings, ALIVE) {
        Ok(url) => health::ask(&url, PATIENCE).await == (true, "alive".to_owned()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::config::{Given, resolve};

    fn settings(port: u16) -> Settings {
        let port = port.to_string();
        let given =
            Given::in_environment(&[("CHANDLER_PORT", &port), ("CHANDLER_HOST", "127.0.0.1")]);
        resolve(&given).unwrap().settings
    }

    #[tokio::test]
    async fn a_port_is_free_or_a_workers_or_somebody_elses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let number = listener.local_addr().unwrap().port();
        let router = axum::Router::new().route(
            "/livez",
            axum::routing::get(|| async { r#"{"status":"alive"}"# }),
        );
        let server = tokio::spawn(async move { axum::serve::serve(listener, router).await });
        let found = port(&settings(number)).await;
        assert_eq!(found.level, Level::Ok, "{}", found.found);
        assert!(found.found.contains("a worker serves there"));
        server.abort();
        let _ = server.await;
        let stranger = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = stranger.local_addr().unwrap().port();
        // It takes connections and never answers.
        let found = port(&settings(number)).await;
        assert_eq!(found.level, Level::Problem);
        assert!(found.remedy.unwrap().contains("--port"));
        drop(stranger);
        assert!(port(&settings(0)).await.found.contains("a free one"));
    }
}
