//! `anweddol config`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Output, OutputArgs, Result};
use crate::config::{COMMENTED, Config, ConfigError, explain, import};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Write a file with every key, its default and what it does; '-' for standard output
    Init {
        /// Where to; it must not exist yet
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Check a file; say everything that is wrong, where, and what would be right
    Check(CheckArgs),
    /// Say what a key means, its default, whether a reload takes it up
    Explain(ExplainArgs),
    /// Convert the Python server's file, and say of each of its keys what became of it
    ///
    /// The configurations of both generations of the Python server are read: those of the betas, and those from 2.0 on.
    Import(ImportArgs),
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Which
    #[arg(default_value = super::admin::CONFIG_FILE)]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The Python server's file, which is usually /etc/anweddol/config.yaml
    #[arg(value_name = "OLD")]
    file: PathBuf,
    /// Where the converted one is written; it must not exist yet. '-' for standard output
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
#[command(after_help = "Examples:
  anweddol config explain                    every key, its default, its first sentence
  anweddol config explain container          the keys of a section
  anweddol config explain container.ttl      all about one")]
pub(super) struct ExplainArgs {
    /// A key or a section; without it, all of them
    #[arg(value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn config(command: ConfigCommand) -> Result<ExitCode> {
    match command {
        ConfigCommand::Init { file } => init(&file),
        ConfigCommand::Check(args) => check(&args),
        ConfigCommand::Explain(args) => explain(&args),
        ConfigCommand::Import(args) => import(&args),
    }
}

fn init(file: &Path) -> Result<ExitCode> {
    write_new(file, COMMENTED)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet, or to standard output if it is `-`.
fn write_new(file: &Path, text: &str) -> Result<()> {
    if file == Path::new("-") {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    let written = OpenOptions::new().write(true).create_new(true).open(file);
    match written.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => eprintln!("written: {}", file.display()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(format!("'{}' exists already and is left as it is", file.display()).into());
        }
        Err(error) => return Err(format!("'{}' cannot be written: {error}", file.display()).into()),
    }
    Ok(())
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let checked = Config::read(&args.file);
    match (args.output.output, checked) {
        (Output::Text, Ok(_)) => eprintln!("good: {}", args.file.display()),
        (Output::Text, Err(error)) => return Err(error.into()),
        (Output::Json, checked) => {
            let error = checked.err();
            println!("{}", json!({ "file": args.file, "good": error.is_none(), "problems": problems(error.as_ref()) }));
            return Ok(ExitCode::from(u8::from(error.is_some())));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn problems(error: Option<&ConfigError>) -> serde_json::Value {
    match error {
        None => json!([]),
        // The file itself is what is wrong.
        Some(error) if error.problems().is_empty() => json!([{ "message": crate::error_chain(error) }]),
        Some(error) => json!(error.problems()),
    }
}

fn import(args: &ImportArgs) -> Result<ExitCode> {
    let imported = import::read(&args.file)?;
    let to_output = args.out == Path::new("-");
    if let (Output::Text, _) | (_, false) = (args.output.output, to_output) {
        write_new(&args.out, &imported.config)?;
    }
    match args.output.output {
        Output::Json => println!("{}", json!(imported)),
        Output::Text => {
            for note in &imported.keys {
                eprintln!("{}:{}: {}", args.file.display(), note.line, note.text());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let (about, keys) = match &args.key {
        Some(key) => explain::explain(key)?,
        None => (String::new(), explain::all()),
    };
    match (args.output.output, args.key.as_deref(), keys.as_slice()) {
        (Output::Json, ..) => println!("{}", json!(keys)),
        (Output::Text, Some(key), [only]) if only.key == key => print!("{}", only.text()),
        (Output::Text, _, keys) => {
            if !about.is_empty() {
                println!("{about}\n");
            }
            let longest = keys.iter().map(|key| key.key.len() + key.default.len()).max().unwrap_or_default();
            for key in keys {
                let line = format!("{}: {}", key.key, key.default);
                println!("{line:width$}   {}", key.brief(), width = longest + 2);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
