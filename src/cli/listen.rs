//! The ports that `serve` opens, before anything that takes time, and what a port that cannot be had means.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use axum::Router;

use super::exit::{Exit, USAGE};
use crate::api;
use crate::config::Settings;

/// The open ports.
pub(super) struct Listeners {
    /// Where requests come.
    pub(super) main: TcpListener,
    /// Where only health is asked for, if that is elsewhere.
    pub(super) health: Option<TcpListener>,
}

impl Listeners {
    /// Opens them.
    ///
    /// # Errors
    /// Which address cannot be had, and what would do.
    pub(super) fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let main = bind(settings.address(), "port")?;
        let taken = main.local_addr().map(|address| address.port())?;
        let own = settings.health_port.filter(|port| *port != taken);
        let health = own.map(|port| bind((settings.host.0, port).into(), "health-port"));
        Ok(Self {
            main,
            health: health.transpose()?,
        })
    }
}

/// `flag` is the setting that gave the port.
fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!(
                    "; another program has it: choose another with --{flag}, or 0 for any free one"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!("; ports below 1024 need privileges: choose another with --{flag}")
            }
            io::ErrorKind::AddrNotAvailable => {
                "; no interface of this machine has that address: see --host".to_owned()
            }
            _ => String::new(),
        };
        Exit::new(
            USAGE,
            format!("cannot listen on {address}: {error}{advice}"),
        )
    })?;
    listener
        .set_nonblocking(true)
        .context("cannot set up the listener")?;
    Ok(listener)
}

/// Answers on the port of health to the very end: while requests drain, it must say so.
pub(super) fn health(
    listener: TcpListener,
    router: Router,
    write_stall: Duration,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tracing::info!(port = listener.local_addr()?.port(), "listening for health");
    tokio::spawn(async move {
        let served = api::serve(listener, router, write_stall, pending::<()>());
        if let Err(error) = served.await {
            tracing::error!(%error, "the port of health is closed");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Everything, SettingFlags};

    #[test]
    fn a_taken_port_is_a_usage_error_that_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut flags = SettingFlags::<Everything>::default();
        flags.set("host", "127.0.0.1");
        flags.set("port", &taken.local_addr().unwrap().port().to_string());
        let error = Listeners::bind(&flags.resolve().unwrap().settings)
            .err()
            .unwrap();
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code, USAGE);
        assert!(
            error.to_string().contains("choose another with --port"),
            "{error}"
        );
    }

    #[test]
    fn health_has_a_port_of_its_own_only_where_it_is_another() {
        let health = |port: &str| {
            let mut flags = SettingFlags::<Everything>::default();
            flags.set("host", "127.0.0.1");
            flags.set("port", "0");
            flags.set("health_port", port);
            let listeners = Listeners::bind(&flags.resolve().unwrap().settings);
            listeners.map(|listeners| listeners.health.is_some())
        };
        assert!(!health("").unwrap());
        assert!(health("0").unwrap());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = health(&port.to_string()).unwrap_err().to_string();
        assert!(error.contains("--health-port"), "{error}");
    }
}
