//! Somebody at the command line on the lab's host: a client over the wire, and who may manage objects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anweddol::wire::Response;
use serde_json::Value;

use crate::common::ask::{Grant, grant};
use crate::common::daemon::{Home, finish, program, stderr, stdout};
use crate::common::until;
use crate::host::Host;

/// The wire's own port, which the command line takes by itself: the same after a restart.
pub(crate) const LISTEN: &str = "--listen=127.0.0.1:6150";

/// Who types. Their saved logins are below the host's directory.
pub(crate) struct User {
    data: PathBuf,
    config: PathBuf,
}

impl User {
    /// On the host of the daemon whose home that is, which has to [`LISTEN`].
    pub(crate) fn of(host: &Host, home: &Home) -> User {
        User { data: host.dir.join("user"), config: home.config.clone() }
    }

    fn run(&self, args: &[&str]) -> Output {
        finish(program(args).env("XDG_DATA_HOME", &self.data).env("ANWEDDOL_CONFIG", &self.config))
    }

    /// Runs a command that has to succeed: what it printed.
    pub(crate) fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// Runs one that has to succeed and prints JSON.
    pub(crate) fn told(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Runs one that is answered no: why.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }

    /// `anweddol create` with these arguments.
    pub(crate) fn create(&self, args: &[&str]) -> Grant {
        let Value::Object(data) = self.told(&[&["create"], args].concat()) else { panic!("no grant") };
        grant(&Response { success: true, message: "OK".into(), data })
    }

    /// Lets a machine live so long from now: until when that is.
    pub(crate) fn extend(&self, grant: &Grant, ttl: &str) -> Value {
        self.told(&["extend", &grant.uuid, "--ttl", ttl])["container_expires_at"].clone()
    }

    /// An object, if it is there.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.run(&["get", kind, name, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until an object's phase is this one: the object then.
    pub(crate) fn until_phase(&self, kind: &str, name: &str, phase: &str) -> Value {
        let so = || self.object(kind, name).filter(|object| object["status"]["phase"] == phase);
        until(&format!("{kind} {name}: {phase}"), so)
    }

    /// Waits until an object is gone.
    pub(crate) fn until_none(&self, kind: &str, name: &str) {
        until(&format!("no {kind} {name}"), || self.object(kind, name).is_none().then_some(()));
    }

    /// Reads the login of an object, which works once; a token comes with a wire client's alone.
    pub(crate) fn login(&self, object: &str) -> Grant {
        let told = self.told(&["login", object]);
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let login = Grant {
            uuid: text("container"),
            token: String::new(),
            username: text("username"),
            password: text("password"),
            port: told["port"].as_u64().unwrap().try_into().unwrap(),
            data: serde_json::Map::new(),
        };
        assert!(self.refused(&["login", object]).contains("works once"));
        login
    }
}

/// Writes a manifest as editors do: whole or not at all.
pub(crate) fn write(file: &Path, text: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, file).unwrap();
}

/// Makes a key pair, the private half in this file: the public one, with a comment.
pub(crate) fn new_key(file: &Path) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "somebody's key", "-f"]).arg(file);
    assert!(command.status().unwrap().success());
    fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

/// Logs in with a private key and nothing else, and runs a command that has to succeed.
pub(crate) fn log_in_by_key(file: &Path, username: &str, port: u16, command: &str) -> String {
    let output = Command::new("ssh")
        .args(["-F", "none", "-i"])
        .arg(file)
        .args(["-p", &port.to_string()])
        .args(["-o", "BatchMode=yes", "-o", "PasswordAuthentication=no", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30"])
        .args([&format!("{username}@127.0.0.1"), command])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
