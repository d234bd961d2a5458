//! Whole paths of the system, each beside what it cannot cost less than, measured in the same run.
//!
//! ```text
//! cargo bench --bench system                      everything that needs no virtual machine
//! cargo bench --bench system -- stat create       only these groups
//! cargo bench --bench system -- --libvirt guests  real guests (tests/lab/run.sh gives them a network of their own)
//! ```
//!
//! Servers are the program itself, `anweddol serve --simulate`, as a process of its own: what the table says of
//! processor time and memory is theirs alone. Clients are this process, on the same cores. What is measured inside a
//! process says so. Nothing here fails for being slow: a row that is over its limit says `OVER`.

#[path = "../../src/allocator.rs"]
mod allocator;
mod bare;
mod claims;
mod daemon;
mod guests;
mod http;
mod sample;
mod scale;
mod setting;
mod table;
mod wire;
mod world;

use std::process::ExitCode;

use bare::Bare;
use table::Table;

/// What went wrong with a measurement itself.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Rows that belong together: a name to ask for them by, and what measures them.
type Group = (&'static str, fn(&mut Table, &Bare) -> Result<()>);

const GROUPS: [Group; 9] = [
    ("stat", wire::stat),
    ("create", wire::create),
    ("claim", claims::claim),
    ("burst", claims::burst),
    ("converge", scale::converge),
    ("restart", scale::restart),
    ("idle", scale::idle),
    ("http", http::http),
    ("guests", guests::guests),
];

fn main() -> ExitCode {
    // `cargo bench` says `--bench` to every benchmark.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let libvirt = asked.iter().any(|arg| arg == "--libvirt");
    let names: Vec<&str> = asked.iter().map(String::as_str).filter(|arg| *arg != "--libvirt").collect();
    if let Some(unknown) = names.iter().find(|name| GROUPS.iter().all(|(group, _)| group != *name)) {
        let known: Vec<&str> = GROUPS.iter().map(|(group, _)| *group).collect();
        eprintln!("there is no group '{unknown}': write some of {}, or none for all", known.join(", "));
        return ExitCode::from(2);
    }
    let wanted = |group: &str| match group {
        "guests" => libvirt,
        _ => names.is_empty() || names.contains(&group),
    };
    match run(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: impl Fn(&str) -> bool) -> Result<()> {
    setting::print();
    let bare = Bare::new()?;
    let mut table = Table::begin();
    for (group, measure) in GROUPS.iter().filter(|(group, _)| wanted(group)) {
        table.group(group);
        measure(&mut table, &bare)?;
    }
    table.end();
    Ok(())
}
