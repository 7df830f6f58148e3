//! `contrail`: the local stack's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    contrail::cli::main()
}
