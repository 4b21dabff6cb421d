//! `random-checkpoint FIXTURE FOLDER`: makes a fixture's checkpoint below a folder, and writes where it is.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [fixture, folder] = arguments.as_slice() else {
        eprintln!("random-checkpoint FIXTURE FOLDER");
        return ExitCode::from(2);
    };
    match random_checkpoints::checkpoint(Path::new(fixture), Path::new(folder)) {
        Ok(made) => {
            println!("{}", made.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{fixture}: {error}");
            ExitCode::FAILURE
        }
    }
}
