//! A double as a process, for conformance runs with official clients: it prints where it listens, and ends with its standard
//! input.

// A double panics when a test misuses it; nobody is served by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::path::PathBuf;

use clap::Parser;
use cloud_doubles::{Server, docker, google};

/// A platform's management API on loopback.
#[derive(Debug, Parser)]
enum Double {
    /// docker's engine, on a Unix socket.
    Docker {
        /// The socket.
        socket: PathBuf,
        /// The program that every image runs.
        #[arg(long)]
        program: Option<PathBuf>,
        /// Images that can be pulled.
        #[arg(long)]
        registry: Vec<String>,
    },
    /// Vertex AI, Cloud Run, Cloud Logging and Google's logins, on loopback.
    Google {
        /// The port; a free one when it is 0.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Where the worker of every endpoint is, as host:port.
        #[arg(long)]
        worker: Option<String>,
        /// Looks at an operation until it ends.
        #[arg(long, default_value_t = 1)]
        looks: u32,
    },
}

fn main() {
    let server = match Double::parse() {
        Double::Docker {
            socket,
            program,
            registry,
        } => {
            let setup = docker::Setup {
                program,
                registry,
                ..docker::Setup::default()
            };
            Server::start_unix(docker::Engine::new(setup), &socket)
        }
        Double::Google {
            port,
            worker,
            looks,
        } => {
            let setup = google::Setup {
                worker,
                looks,
                ..google::Setup::default()
            };
            Server::listen(google::Google::new(setup), ([127, 0, 0, 1], port).into())
        }
    };
    println!("{}", server.url);
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
}
