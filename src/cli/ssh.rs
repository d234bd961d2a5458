//! Logging in: this host's own `ssh`, given the password without a prompt.
//!
//! OpenSSH asks a program for a password where `SSH_ASKPASS_REQUIRE=force` says so (OpenSSH 8.4 and later). That
//! program is this one: started with [`ASKPASS`] in its environment it prints the password from the file named
//! there, and nothing else. So the password is in no argument and in no environment.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::Result;
use super::credentials::{Credentials, Saved, read};

const ASKPASS: &str = "ANWEDDOL_ASKPASS";

/// Why SSH cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("'ssh' cannot be run: is OpenSSH's client installed (package openssh-client)?")]
struct SshMissing(#[source] std::io::Error);

/// Answers SSH's question for the password, if that is why this program was started.
pub(super) fn askpass() -> Option<ExitCode> {
    let file = std::env::var_os(ASKPASS)?;
    Some(match read(Path::new(&file)) {
        Ok(saved) => match writeln!(std::io::stdout(), "{}", saved.container_password) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {}", crate::error_chain(&error));
            ExitCode::FAILURE
        }
    })
}

/// Runs `ssh` to a machine; its exit code is ours.
pub(super) fn ssh(container: Option<&str>, command: &[String]) -> Result<ExitCode> {
    let credentials = Credentials::of_user();
    let saved = credentials.find(container)?;
    let mut ssh = prepare(&credentials, &saved, &std::env::current_exe()?);
    let status = ssh.args(command).status().map_err(SshMissing)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255)))
}

fn prepare(credentials: &Credentials, saved: &Saved, this_program: &Path) -> Command {
    let known_hosts = credentials.known_hosts(&saved.container_uuid);
    let option = |name: &str, value: &OsStr| {
        let mut option = std::ffi::OsString::from(format!("{name}="));
        option.push(value);
        option
    };
    let mut ssh = Command::new("ssh");
    ssh.env("SSH_ASKPASS", this_program)
        .env("SSH_ASKPASS_REQUIRE", "force")
        .env(ASKPASS, credentials.path(&saved.container_uuid))
        // The machine is new: its host key is remembered on first use, and a later change is refused.
        .args(["-o", "StrictHostKeyChecking=accept-new"])
        .arg("-o")
        .arg(option("UserKnownHostsFile", known_hosts.as_os_str()))
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
        .args(["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"])
        .args(["-p", &saved.container_listen_port.to_string()])
        // What follows is for the machine, whatever it begins with.
        .arg("--")
        .arg(format!("{}@{}", saved.container_username, saved.host()));
    ssh
}
