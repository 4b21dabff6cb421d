//! The server as a process, for scripts in other languages. It prints where it is and its keys as a line of JSON, and ends on
//! SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use s3_double::{Fault, Options, S3Double};
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server on loopback, with faults.
#[derive(Parser)]
struct Arguments {
    /// Port to listen on; 0 chooses a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A bucket to begin with.
    #[arg(long, default_value = "models")]
    bucket: String,
    /// The only access key's id.
    #[arg(long, default_value = "AKIADOUBLE")]
    access_key: String,
    /// The access key.
    #[arg(long, default_value = "double/secret+key")]
    secret_key: String,
    /// Of the reads of objects, one in so many goes wrong.
    #[arg(long)]
    fault_one_in: Option<u64>,
    /// Seed of what goes wrong.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let given = Arguments::parse();
    let options = Options {
        port: given.port,
        access_key: given.access_key,
        secret_key: given.secret_key,
        ..Options::default()
    };
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return ExitCode::FAILURE;
    };
    let double = S3Double::start(options).await;
    double.bucket(&given.bucket);
    if let Some(one_in) = given.fault_one_in {
        let faults = vec![
            Fault::Cut(100_000),
            Fault::Refuse(503, "SlowDown", None),
            Fault::Refuse(429, "TooManyRequests", Some(1)),
            Fault::Refuse(500, "InternalError", None),
            Fault::Short(1000),
            Fault::Slow(4 << 20),
        ];
        double.faults().rate(given.seed, one_in, faults);
    }
    let keys = double.options();
    println!(
        "{{\"endpoint\":\"{}\",\"bucket\":\"{}\",\"access_key\":\"{}\",\"secret_key\":\"{}\"}}",
        double.endpoint(),
        given.bucket,
        keys.access_key,
        keys.secret_key
    );
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    ExitCode::SUCCESS
}
