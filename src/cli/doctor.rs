//! `anweddol doctor`.

use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::objects::Daemon;
use super::{ConfigArgs, Output, OutputArgs, Result, admin};
use crate::api::{Cure, Doctor};
use crate::daemon;
use crate::plan::drift::{Outcome, Report, Wrong};

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
}

/// Who looked.
enum Eyes {
    /// The daemon that runs.
    Daemon,
    /// This process, because none runs.
    Own,
}

pub(super) fn doctor(args: DoctorArgs) -> Result<ExitCode> {
    let cure = if args.fix { Cure::Remove } else { Cure::None };
    let (eyes, report) = examine(&args.config, cure)?;
    match args.output.output {
        Output::Json => {
            let mut value = serde_json::to_value(&report)?;
            value["daemon"] = matches!(eyes, Eyes::Daemon).into();
            println!("{value}");
        }
        Output::Text => print!("{}", text(&report, &eyes, cure)),
    }
    Ok(ExitCode::from(u8::from(!report.is_clean())))
}

fn examine(config: &ConfigArgs, cure: Cure) -> Result<(Eyes, Report)> {
    let configured = admin::config(config)?;
    let socket = daemon::socket_path(&configured.state_dir);
    match UnixStream::connect(&socket) {
        // Nobody has it, or who had it is gone.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let report = daemon::doctor(&configured, runtime.handle().clone())?.examine(cure)?;
            runtime.shutdown_background();
            Ok((Eyes::Own, report))
        }
        // What else may be wrong with it, asking tells.
        Ok(_) | Err(_) => {
            let method = match cure {
                Cure::None => Method::GET,
                Cure::Remove => Method::POST,
            };
            let answer = super::block_on(async { Daemon::of(config)?.ask(method, "/doctor", None).await })?;
            Ok((Eyes::Daemon, serde_json::from_value(answer.value)?))
        }
    }
}

fn text(report: &Report, eyes: &Eyes, cure: Cure) -> String {
    let mut out = match eyes {
        Eyes::Daemon => String::new(),
        Eyes::Own => "no daemon runs on this state directory: looked at without it\n\n".to_owned(),
    };
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    for check in &report.checks {
        match &check.outcome {
            Outcome::Good(seen) => line(format!("good     {}: {seen}", check.name)),
            Outcome::Bad(right) => line(format!("BAD      {}: {right}", check.name)),
        }
    }
    for one in &report.looked {
        let word = if one.unknown.is_empty() { "looked  " } else { "UNKNOWN " };
        line(format!("{word} {:<17} {} found, {} of them recorded", one.kind.to_string(), one.found, one.owned));
        one.unknown.iter().for_each(|why| line(format!("         {why}")));
    }
    for gone in &report.removed {
        match &gone.failed {
            None => line(format!("removed  {} {}", gone.kind, gone.name)),
            Some(why) => line(format!("FAILED   {} {} stays: {why}", gone.kind, gone.name)),
        }
    }
    for drift in &report.drifts {
        let word = match drift.wrong {
            Wrong::Leftover => "LEFTOVER",
            Wrong::Waiting => "WAITING ",
            Wrong::Missing => "MISSING ",
            Wrong::Others => "others' ",
        };
        line(format!("{word} {} {}: {}", drift.kind, drift.name, drift.right));
    }
    report.attention.iter().for_each(|at| line(format!("look at  {}: {}", at.object, at.reason)));
    line(String::new());
    line(verdict(report, cure));
    out
}

fn verdict(report: &Report, cure: Cure) -> String {
    let count = |wrong: Wrong| report.drifts.iter().filter(|drift| drift.wrong == wrong).count();
    let unknown = report.looked.iter().filter(|one| !one.unknown.is_empty()).count();
    let bad = report.checks.iter().filter(|check| matches!(check.outcome, Outcome::Bad(_))).count();
    if report.is_clean() {
        return "clean: everything is as recorded".into();
    }
    let (left, missing) = (count(Wrong::Leftover) + count(Wrong::Waiting), count(Wrong::Missing));
    let mut said =
        format!("not clean: {left} left over, {missing} missing, {unknown} kinds not seen, {bad} checks bad");
    if left > 0 && cure == Cure::None {
        said.push_str("; 'anweddol doctor --fix' removes what is left over, and so does the daemon in time");
    }
    if unknown > 0 && !rustix::process::geteuid().is_root() {
        said.push_str("; some of it can only root see: run it as root");
    }
    said
}
