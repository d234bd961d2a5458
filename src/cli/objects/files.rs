//! Manifests as they are named on the command line, and `anweddol validate`.

use std::io::{IsTerminal, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::Result;
use crate::keeper::files;
use crate::manifest::{self, Located, MAX_SIZE, Problem, Read, duplicates};

/// Of files that are empty, or comments alone.
const NOTHING: &str = "there is no manifest in what was given";

#[derive(Args)]
pub(in crate::cli) struct ValidateArgs {
    /// Files, directories (their *.yaml, *.yml and *.json), or '-' for standard input
    #[arg(long = "filename", short = 'f', required_unless_present = "files", value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// The same without -f
    #[arg(value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
}

/// Says everything that is wrong with manifests. Asks no daemon.
pub(in crate::cli) fn validate(args: ValidateArgs) -> Result<ExitCode> {
    let names: Vec<PathBuf> = args.filenames.into_iter().chain(args.files).collect();
    let read = read(&names)?;
    if !read.problems.is_empty() {
        tell(&read.problems);
        return Ok(ExitCode::from(1));
    }
    if read.manifests.is_empty() {
        return Err(NOTHING.into());
    }
    let files: std::collections::BTreeSet<_> = read.manifests.iter().map(|located| &located.place.file).collect();
    println!("good: {} objects in {} files", read.manifests.len(), files.len());
    Ok(ExitCode::SUCCESS)
}

/// Reads everything that is named, and finds what is there twice.
pub(super) fn read(names: &[PathBuf]) -> Result<Read> {
    let mut all = Read::default();
    for name in names {
        for Read { manifests, problems } in read_one(name)? {
            all.manifests.extend(manifests);
            all.problems.extend(problems);
        }
    }
    // Within one file they were told already.
    let twice = duplicates(&all.manifests).into_iter().filter(|problem| !all.problems.contains(problem));
    let twice: Vec<Problem> = twice.collect();
    all.problems.extend(twice);
    Ok(all)
}

fn read_one(name: &Path) -> Result<Vec<Read>> {
    if name == Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprintln!("reading manifests from the terminal; end them with Ctrl-D");
        }
        let mut bytes = Vec::new();
        std::io::stdin().take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
        return Ok(vec![manifest::read("standard input", &bytes)]);
    }
    if name.is_dir() {
        let files = files::manifests(name).map_err(|error| format!("directory '{}': {error}", name.display()))?;
        if files.is_empty() {
            return Err(format!("directory '{}' has no *.yaml, *.yml or *.json", name.display()).into());
        }
        return Ok(files.iter().map(|file| files::read(file)).collect());
    }
    Ok(vec![files::read(name)])
}

/// The manifests, if nothing is wrong with any of them.
pub(super) fn good(names: &[PathBuf]) -> Result<Vec<Located>> {
    let Read { manifests, problems } = read(names)?;
    if !problems.is_empty() {
        tell(&problems);
        let count = problems.len();
        return Err(format!(
            "nothing was done, because of {count} error{} in manifests",
            if count == 1 { "" } else { "s" }
        )
        .into());
    }
    if manifests.is_empty() {
        return Err(NOTHING.into());
    }
    Ok(manifests)
}

fn tell(problems: &[Problem]) {
    for problem in problems {
        eprintln!("{problem}");
    }
}
