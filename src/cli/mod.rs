//! The command line: one file per subcommand, each from parsed flags to an exit code. The only place where errors are
//! `anyhow` and where the environment is read.

mod announce;
mod ask;
mod bench;
mod cache;
mod completions;
mod config;
mod doctor;
mod ending;
mod endpoints;
mod exit;
mod flags;
mod hardware;
mod health;
mod jobs;
mod listen;
mod models;
mod output;
mod outward;
mod places;
mod plan;
mod planning;
mod progress;
mod provision;
mod pull;
mod queue;
mod register;
mod run;
mod selftest;
mod serve;
mod signals;
mod table;
mod telemetry;
mod templates;
mod threads;
mod transfers;
mod version;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  chandler serve                                  serve the demo model on port 8080
  chandler serve --model ./Llama-3.2-1B-Instruct  serve a model from a directory
  chandler serve --model Qwen/Qwen2.5-0.5B-Instruct  fetch a model from the Hugging Face hub and serve it
  chandler pull Qwen/Qwen2.5-0.5B-Instruct --dry-run  see what would be fetched
  chandler run \"What is the capital of France?\"   answer once, without a server
  chandler run --task asr --model ./recogniser talk.mp3  write down what is said in an audio file
  chandler bench http://localhost:8080 --concurrency 1,8  measure an endpoint, one request at a time and eight
  chandler selftest                               run the embedded model here and compare
  chandler doctor                                 what this machine has, and what is wrong with it
  chandler config show                            see every setting and where it came from

Every setting can be a flag, a variable (CHANDLER_...) or a key of a TOML file (--config FILE). A flag wins over a \
variable, a variable over the file, the file over the model's card, the card over what the platform needs, and that \
over the default.

Exit codes:
  0         done
  1         failed
  2         wrong usage or setting, or the port is taken
  75        the device was lost while serving; starting again may help
  130, 143  interrupted a second time while draining";

/// Turns a model into a serverless endpoint, and serves it.
#[derive(Debug, Parser)]
#[command(name = "chandler", version = version::SHORT, long_version = version::LONG, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    // Why boxed: it has the flags of every task.
    Run(Box<run::Run>),
    Pull(pull::Pull),
    Bench(Box<bench::Bench>),
    Selftest(selftest::Selftest),
    Doctor(doctor::Doctor),
    Health(health::Health),
    Models(models::Models),
    Hardware(hardware::List),
    Templates(templates::Templates),
    Plan(plan::Command),
    Cache(cache::Cache),
    Provision(provision::Provision),
    Endpoints(endpoints::Endpoints),
    Config(config::Config),
    Completions(completions::Completions),
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // ends the process with help, version, or exit code 2
    let done = match cli.command {
        Command::Serve(command) => command.execute(),
        Command::Run(command) => command.execute(),
        Command::Pull(command) => command.execute(),
        Command::Bench(command) => command.execute(),
        Command::Selftest(command) => command.execute(),
        Command::Doctor(command) => command.execute(),
        Command::Health(command) => command.execute(),
        Command::Models(command) => command.execute(),
        Command::Hardware(command) => command.execute(),
        Command::Templates(command) => command.execute(),
        Command::Plan(command) => command.execute(),
        Command::Cache(command) => command.execute(),
        Command::Provision(command) => command.execute(),
        Command::Endpoints(command) => command.execute(),
        Command::Config(command) => command.execute(),
        Command::Completions(command) => command.execute(Cli::command()),
    };
    done.unwrap_or_else(|error| exit::report(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_says_its_variables_and_default_in_the_help() {
        let mut command = Cli::command();
        let serve = command.find_subcommand_mut("serve").unwrap();
        let help = serve.render_long_help().to_string();
        for spec in crate::config::SPECS {
            if let Some(flag) = spec.flag {
                // A switch may stand without its value.
                let shown = |between: &str| help.contains(&format!("--{flag}{between}<"));
                assert!(shown(" ") || shown("[="), "{flag}");
            }
            for variable in spec.variables {
                assert!(help.contains(variable.name), "{}", variable.name);
            }
        }
        assert!(help.contains("[default: 8080]"));
    }
}
