//! The `anweddol` program; see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    anweddol::cli::main()
}
