//! `anweddol doctor`: what this host has, then what is on it, compared with the records.
//!
//! The first is looked at by this process, with the rights of whoever calls it, whether a daemon runs or not; the second by
//! the daemon where one runs, since nobody else can open its store.

mod host;
mod records;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hyper::Method;
use jiff::Timestamp;
use serde_json::json;

use super::objects::Daemon;
use super::{ConfigArgs, Output, OutputArgs, Result, admin};
use crate::api::{Cure, Doctor};
use crate::config::Config;
use crate::daemon::checks::{self, Depth};
use crate::daemon::{self, ServeError};
use crate::error_chain;
use crate::plan::checks::{Check, Status};
use crate::plan::drift::Report;
use host::Paint;
use records::Eyes;

#[derive(Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Remove what is left over: what bears this installation's mark, or lies in a place of its own, and has no
    /// record. Nothing else
    #[arg(long)]
    fix: bool,
    /// Look at one half only
    #[arg(long, value_name = "HALF")]
    only: Option<Half>,
    /// Start no QEMU: neither the guests that show whether it and KVM really run one, nor for a libvirt of our own
    #[arg(long)]
    no_guest: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Half {
    /// What this host has: QEMU, KVM, libvirt, network, image, ports and more
    Host,
    /// What is on it, compared with the records
    Records,
}

/// How a comparison with the records ended.
enum Compared {
    /// Nobody asked for it.
    Not,
    /// There are none, because no daemon ever ran here.
    NoRecords(String),
    /// It could not be done.
    Failed(String),
    /// What it found.
    Found(Eyes, Box<Report>),
}

pub(super) fn doctor(args: DoctorArgs) -> Result<ExitCode> {
    let config = admin::config_as_owner(&args.config)?;
    let compared = compare(&args, &config)?;
    let checks = match args.only {
        Some(Half::Records) => Vec::new(),
        Some(Half::Host) | None => look(&args, &config, &compared),
    };
    match args.output.output {
        Output::Json => println!("{}", value(&checks, &compared)?),
        Output::Text => print(&args, &checks, &compared),
    }
    let good = checks.iter().all(|check| check.status != Status::Fail)
        && match &compared {
            Compared::Not | Compared::NoRecords(_) => true,
            Compared::Failed(_) => false,
            Compared::Found(_, report) => report.is_clean(),
        };
    Ok(ExitCode::from(u8::from(!good)))
}

fn look(args: &DoctorArgs, config: &Config, compared: &Compared) -> Vec<Check> {
    let depth = if args.no_guest { Depth::Doctor } else { Depth::Guests };
    let time = match compared {
        Compared::Found(_, report) => report.time,
        Compared::Not | Compared::NoRecords(_) | Compared::Failed(_) => None,
    };
    let ahead = time.map(|time| Timestamp::now().duration_since(time).as_secs());
    checks::look(config, depth, !is_nobody(&connect(config)), ahead)
}

fn connect(config: &Config) -> std::io::Result<UnixStream> {
    UnixStream::connect(daemon::socket_path(&config.state_dir))
}

/// Nobody has the socket, or who had it is gone. One that answers only others is somebody's.
fn is_nobody(connected: &std::io::Result<UnixStream>) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    connected.as_ref().is_err_and(|error| matches!(error.kind(), NotFound | ConnectionRefused))
}

/// What is asked for alone, and cannot be had, is an error; beside the other half it is one of its findings.
fn compare(args: &DoctorArgs, config: &Config) -> Result<Compared> {
    let cure = if args.fix { Cure::Remove } else { Cure::None };
    if args.only == Some(Half::Host) {
        return if args.fix {
            Err("--fix removes what has no record: it needs that half".into())
        } else {
            Ok(Compared::Not)
        };
    }
    match examine(args, config, cure) {
        Ok((eyes, report)) => Ok(Compared::Found(eyes, Box::new(report))),
        Err(error) if args.fix || args.only.is_some() => Err(error),
        Err(error) => Ok(match error.downcast_ref() {
            Some(ServeError::NoRecords { .. }) => Compared::NoRecords(error.to_string()),
            Some(_) | None => Compared::Failed(error_chain(&*error)),
        }),
    }
}

fn examine(args: &DoctorArgs, config: &Config, cure: Cure) -> Result<(Eyes, Report)> {
    match connect(config) {
        connected if is_nobody(&connected) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let report = daemon::doctor(config, runtime.handle().clone())?.examine(cure)?;
            runtime.shutdown_background();
            Ok((Eyes::Own, report))
        }
        // What else may be wrong with it, asking tells.
        Ok(_) | Err(_) => {
            let method = match cure {
                Cure::None => Method::GET,
                Cure::Remove => Method::POST,
            };
            let answer = super::block_on(async { Daemon::of(&args.config)?.ask(method, "/doctor", None).await })?;
            Ok((Eyes::Daemon, serde_json::from_value(answer.value)?))
        }
    }
}

fn value(checks: &[Check], compared: &Compared) -> Result<serde_json::Value> {
    let mut value = match compared {
        Compared::Not => json!({}),
        Compared::NoRecords(why) => json!({ "noRecords": why }),
        Compared::Failed(why) => json!({ "error": why }),
        Compared::Found(eyes, report) => {
            let mut value = serde_json::to_value(report)?;
            value["daemon"] = (*eyes == Eyes::Daemon).into();
            value
        }
    };
    value["host"] = serde_json::to_value(checks)?;
    Ok(value)
}

fn print(args: &DoctorArgs, checks: &[Check], compared: &Compared) {
    if !checks.is_empty() {
        print!("{}", host::text(checks, Paint::of_stdout()));
    }
    if !checks.is_empty() && !matches!(compared, Compared::Not) {
        println!("\nrecords");
    }
    let cure = if args.fix { Cure::Remove } else { Cure::None };
    match compared {
        Compared::Not => {}
        Compared::NoRecords(why) => println!("{why}"),
        Compared::Failed(why) => println!("they cannot be compared: {why}"),
        Compared::Found(eyes, report) => print!("{}", records::text(report, *eyes, cure)),
    }
}
