//! The program `chandler`: parses the command line and ends with the exit code that the command gives.

use std::process::ExitCode;

fn main() -> ExitCode {
    chandler::cli::main()
}
