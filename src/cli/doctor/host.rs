//! What a host has, as lines.

use std::fmt::Write;
use std::io::IsTerminal;

use crate::plan::checks::{Check, Group, Status};

/// Whether lines have colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// They do.
    Colours,
    /// They do not.
    Plain,
}

impl Paint {
    pub(super) fn of_stdout() -> Paint {
        match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            true => Paint::Colours,
            false => Paint::Plain,
        }
    }
}

pub(super) fn text(checks: &[Check], paint: Paint) -> String {
    let mut out = String::new();
    let mut group = None;
    for check in checks {
        if group != Some(check.group) {
            let space = if group.is_some() { "\n" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{space}{}", title(check.group));
            group = Some(check.group);
        }
        let _ = writeln!(out, "  {} {}: {}", mark(check.status, paint), check.name, check.message);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(out, "      {remedy}");
        }
    }
    let _ = writeln!(out, "\n{}", verdict(checks));
    out
}

fn title(group: Group) -> &'static str {
    match group {
        Group::Machines => "machines",
        Group::Network => "network",
        Group::Storage => "storage",
        Group::Host => "host",
    }
}

fn mark(status: Status, paint: Paint) -> String {
    let (mark, colour) = match status {
        Status::Ok => ("✓", 32),
        Status::Warn => ("!", 33),
        Status::Unknown => ("?", 33),
        Status::Fail => ("✗", 31),
    };
    match paint {
        Paint::Colours => format!("\x1b[1;{colour}m{mark}\x1b[0m"),
        Paint::Plain => mark.to_owned(),
    }
}

fn verdict(checks: &[Check]) -> String {
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let (fail, warn, unknown) = (count(Status::Fail), count(Status::Warn), count(Status::Unknown));
    match (fail, warn + unknown) {
        (0, 0) => "the host is ready".into(),
        (0, _) => format!("the host is ready; {warn} warnings, {unknown} not seen"),
        _ => format!("the host is not ready: {fail} failed, {warn} warnings, {unknown} not seen"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_under_its_group_with_what_to_do_below() {
        let checks = [
            Check::ok(Group::Machines, "qemu", "/usr/bin/qemu"),
            Check::warn(Group::Machines, "kvm", "it is slow", "wait"),
            Check::fail(Group::Storage, "disk", "it is full", "make room"),
        ];
        let want = "machines\n  ✓ qemu: /usr/bin/qemu\n  ! kvm: it is slow\n      wait\n\nstorage\n  ✗ disk: it is full\n      make room\n\nthe host is not ready: 1 failed, 1 warnings, 0 not seen\n";
        assert_eq!(text(&checks, Paint::Plain), want);
        assert!(text(&checks, Paint::Colours).contains("\x1b[1;31m✗\x1b[0m disk"));
        assert!(text(&checks[..2], Paint::Plain).ends_with("the host is ready; 1 warnings, 0 not seen\n"));
    }
}
