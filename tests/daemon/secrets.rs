//! Passwords and tokens are told to their client and to nobody else.

use std::fs;
use std::path::Path;

use anweddol::wire::{CREATE, Generation, Request};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tempfile::tempdir;

use crate::common::ask::{ask, create, destroy, grant, stat};
use crate::common::daemon::{Home, finish, program, stderr, stdout};
use crate::common::until;

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The files below a directory that hold a text.
pub(crate) fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if holds(&fs::read(&path).unwrap(), text) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn no_password_and_no_token_is_in_the_log_or_in_the_state_directory() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("boot=10ms").env("RUST_LOG", "anweddol=trace");
    let daemon = home.start();
    let (kept, gone) = (grant(&create(daemon.address)), grant(&create(daemon.address)));
    assert!(destroy(daemon.address, &gone).success);
    stat(daemon.address);
    let log = daemon.stop().join("\n");
    assert!(log.contains("\"DEBUG\""), "the log is not at the level that this test is about");
    // What is looked for can be found: the kept container is in both.
    assert!(log.contains(&kept.uuid) && !files_with(&home.state, &kept.uuid).is_empty());
    for secret in [&kept.password, &kept.token, &gone.password, &gone.token] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
        // A part of it would be a leak too, and a store that compresses might hide the whole.
        assert_eq!(files_with(&home.state, &secret[..24]), [""; 0]);
    }
    for pem in ["/client/private_pem", "/server/private_pem"] {
        let pem = crate::common::daemon::VECTORS.pointer(pem).unwrap().as_str().unwrap();
        assert!(!log.contains(pem.lines().nth(1).unwrap()), "a private key is in the log");
    }
}

/// As much of a secret as nobody guesses: what shows that much of it shows it.
const TELLING: usize = 24;

/// How bytes look in a text: as they are, in hexadecimal, in both alphabets of base64 wherever they begin, in a URL, and
/// as a list of numbers.
fn forms(secret: &[u8]) -> Vec<String> {
    let part = &secret[..TELLING];
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let url: String = form_urlencoded::byte_serialize(part).collect();
    let numbers: Vec<String> = part.iter().map(u8::to_string).collect();
    let mut forms = vec![hex.to_uppercase(), hex, url, numbers.join(", "), numbers.join(",")];
    forms.extend(str::from_utf8(part).ok().map(str::to_owned));
    for begin in 0..3 {
        let whole = &secret[begin..begin + TELLING - 3];
        forms.extend([STANDARD_NO_PAD.encode(whole), URL_SAFE_NO_PAD.encode(whole)]);
    }
    forms
}

/// Where a secret is in a text, if it is, in whichever form.
fn told<'a>(secret: &[u8], text: &'a str) -> Option<&'a str> {
    forms(secret).iter().find_map(|form| text.find(form.as_str()).map(|at| &text[at..at + form.len()]))
}

#[test]
fn a_secret_is_found_in_every_form_that_it_can_be_told_in() {
    let secret = b"kVbmX2q+LxR_07-wWcZ9p/LmQ4xY8s=";
    let encoded = |before: &str| STANDARD.encode([before.as_bytes(), secret].concat());
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = str::from_utf8(secret).unwrap();
    let url: String = form_urlencoded::byte_serialize(secret).collect();
    let said = [text.to_owned(), hex, url, format!("{secret:?}"), encoded(""), encoded("a"), encoded("ab")];
    for said in said {
        assert!(told(secret, &format!("x={said};")).is_some(), "{said}");
    }
    assert_eq!(told(secret, "kVbmX2q+LxR_07-wWcZ9"), None, "of a part that is too short nobody knows whose it is");
}

/// Everything that a daemon and a command line say, at the most that they can say, while every secret there is goes through
/// them.
#[test]
fn no_secret_is_in_any_log_metric_error_command_line_or_environment() {
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "container: {warm: 1}").with_vectors_key();
    let home = home.simulated("boot=10ms").env("RUST_LOG", "trace");
    let daemon = home.start();
    let mut said = String::new();
    let mut secrets: Vec<(&str, Vec<u8>)> = Vec::new();
    let address = daemon.address.to_string();
    let mut run = |args: &[&str]| {
        let mut command = program(args);
        command.env("XDG_DATA_HOME", dir.path().join("user")).env("ANWEDDOL_SERVER", &address);
        let output = finish(command.env("RUST_LOG", "trace"));
        said.push_str(&stderr(&output));
        (output.status.success(), stdout(&output))
    };
    let state = home.state.to_str().unwrap();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().as_bytes().to_vec();

    // Clients, one of them with a key, and one that mistypes its token.
    let key = dir.path().join("id.pub");
    fs::write(&key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6zkuiqPuOMPXzBYxfpX8nvXbPSp9Yg9T5rYCVcjHkX me\n").unwrap();
    let (good, created) = run(&["create", "-o", "json", "--ssh-key", key.to_str().unwrap()]);
    assert!(good, "{created}");
    let created: Value = serde_json::from_str(&created).unwrap();
    secrets.push(("a password that the command line was told", text(&created, "container_password")));
    let kept = grant(&create(daemon.address));
    let mut mistyped = kept.clone();
    mistyped.token.replace_range(0..1, if kept.token.starts_with('a') { "b" } else { "a" });
    assert!(!destroy(daemon.address, &mistyped).success);
    let nonsense = [("ttl".to_owned(), Value::from(kept.password.clone()))].into_iter().collect();
    assert!(!ask(daemon.address, Generation::Second, &Request::new(CREATE, nonsense)).success);
    secrets.push(("a password", kept.password.into_bytes()));
    secrets.push(("a client token", kept.token.into_bytes()));
    secrets.push(("a mistyped client token", mistyped.token.into_bytes()));
    assert!(run(&["list", "-o", "json"]).0 && run(&["destroy"]).0);
    for file in files_below(&dir.path().join("user")) {
        let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap_or_default();
        if saved["client_token"].is_string() {
            secrets.push(("a token that the command line saved", text(&saved, "client_token")));
        }
    }

    // A claim that was written, and its login.
    let manifest = dir.path().join("claim.yaml");
    let claim =
        "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {name: mine}\nspec: {pool: default}\n";
    fs::write(&manifest, claim).unwrap();
    assert!(run(&["apply", "-f", manifest.to_str().unwrap(), "--state", state]).0);
    let login = until("the login of a claim", || {
        let (good, login) = run(&["login", "claim", "mine", "-o", "json", "--state", state]);
        good.then(|| serde_json::from_str::<Value>(&login).unwrap())
    });
    secrets.push(("a claim's password", text(&login, "password")));
    assert!(!run(&["login", "claim", "mine", "--state", state]).0, "it is told once");

    // A token of the API, and what is kept of secrets for others.
    let (good, kubeconfig) = run(&["kubeconfig", "--role", "admin", "--state", state]);
    let kubeconfig: Value = serde_yaml::from_str(&kubeconfig).unwrap();
    assert!(good, "{kubeconfig}");
    secrets.push(("a token of the API", text(&kubeconfig["users"][0]["user"], "token")));
    assert!(!run(&["kubeconfig", "--role", "admin", "--state", state]).0, "of one name there is one");

    // An access token: shown, mistaken for a file, and mistyped.
    let (good, access) = run(&["access-token", "add", "--state", state]);
    assert!(good, "{access}");
    let access = access.trim_end().to_owned();
    let file = dir.path().join("access");
    fs::write(&file, &access).unwrap();
    assert!(run(&["stat", "--access-token", file.to_str().unwrap()]).0);
    assert!(!run(&["stat", "--access-token", &access]).0);
    let mistyped: String = access.chars().rev().collect();
    fs::write(&file, &mistyped).unwrap();
    assert!(!run(&["stat", "--access-token", file.to_str().unwrap()]).0);
    secrets.push(("an access token", access.into_bytes()));
    secrets.push(("a mistyped access token", mistyped.into_bytes()));

    // The keys.
    for (name, file) in [("the server's key", home.key()), ("the authority's key", home.state.join("authority.pem"))] {
        let pem = fs::read_to_string(&file).unwrap();
        let key = pem.split("PRIVATE KEY-----").nth(1).unwrap();
        // Behind what every key of its kind begins with.
        let der = STANDARD.decode(key.trim_end_matches(|c| "-END ".contains(c)).replace(['\n', '\r'], "")).unwrap();
        secrets.push((name, der[40..].to_vec()));
    }
    let seal = fs::read(home.simulated_state().join("seal.key")).unwrap();
    secrets.push(("the sealing key, as it is written", seal));

    let (_, metrics) = daemon.http("/metrics");
    let of_process = |name: &str| {
        let bytes = fs::read(format!("/proc/{}/{name}", daemon.pid())).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (arguments, environment) = (of_process("cmdline"), of_process("environ"));
    let log = daemon.stop().join("\n");
    let simulated = home.simulated_state();
    let (good, exported) = run(&["store", "export", "--state", simulated.to_str().unwrap()]);
    assert!(good && exported.contains("credentials"), "{exported}");
    let backup = dir.path().join("backup.jsonl");
    fs::write(&backup, &exported).unwrap();
    let import = ["store", "import", "--replace", backup.to_str().unwrap(), "--state", simulated.to_str().unwrap()];
    assert!(run(&import).0);
    fs::write(&backup, exported.replacen("sealedPassword", "sealedPasswort", 1)).unwrap();
    run(&import);

    assert!(
        log.contains("\"TRACE\"") && log.contains("\"request\""),
        "the log is not at the level that this test is about"
    );
    assert!(environment.contains("RUST_LOG") && arguments.contains("serve") && metrics.contains("anweddol_"));
    assert!(
        secrets.len() >= 11,
        "fewer secrets than there are: {:?}",
        secrets.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    // What is exported is sealed: it may be kept where a backup is kept.
    let places = [
        ("the log", &log),
        ("the metrics", &metrics),
        ("what the command line says on standard error", &said),
        ("the arguments", &arguments),
        ("the environment", &environment),
        ("an export", &exported),
    ];
    for (secret, bytes) in &secrets {
        for (place, text) in &places {
            if let Some(found) = told(bytes, text) {
                let line = text.lines().find(|line| line.contains(found)).unwrap_or_default();
                panic!("{secret} is in {place}, as {found}: {}", &line[..line.len().min(2000)]);
            }
        }
    }
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
