//! The `anweddol` program; see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    anweddol::cli::main()
}
