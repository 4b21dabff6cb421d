//! A double as a process, for conformance runs with official clients: it prints where it listens, and ends with its standard
//! input.

// A double panics when a test misuses it; nobody is served by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Read;
use std::path::PathBuf;

use clap::Parser;
use cloud_doubles::{Server, docker};

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
    };
    println!("{}", server.url);
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
}
