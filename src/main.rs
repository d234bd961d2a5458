//! The `anweddol` program; see the library's documentation.

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = fail::FailScenario::setup();
    anweddol::cli::main()
}
