//! What a comparison with the records found, as lines.

use std::fmt::Write;

use crate::api::Cure;
use crate::plan::drift::{Outcome, Report, Wrong};

/// Who looked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Eyes {
    /// The daemon that runs.
    Daemon,
    /// This process, because none runs.
    Own,
}

pub(super) fn text(report: &Report, eyes: Eyes, cure: Cure) -> String {
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
