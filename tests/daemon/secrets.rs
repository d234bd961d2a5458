//! Passwords and tokens are told to their client and to nobody else.

use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use anweddol::store::{Store, Txn};
use anweddol::wire::{CREATE, Generation, Request};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, getrlimit, kill_process, setrlimit};
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
        } else if path.is_file() && holds(&fs::read(&path).unwrap(), text) {
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

/// Asks the local API: code and body.
fn local(home: &Home, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(home.state.join("api.sock")).unwrap();
    let head = "Host: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn no_secret_of_a_client_is_in_any_file_of_the_store_nor_one_from_before_they_were_sealed() {
    const SECRETS: &str = "/api/v1/namespaces/red/secrets";
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("");
    let text = "correct horse battery staple";
    let data = STANDARD.encode(text);
    let found = || [text, &data[..24]].map(|part| files_with(&home.state, part)).concat();
    let daemon = home.start();
    // As kubectl writes one, its data twice, and as helm keeps a release.
    let applied = serde_json::json!({ "applied": format!("{{\"data\":{{\"a\":\"{data}\"}}}}") });
    let metadata = serde_json::json!({ "name": "by-kubectl", "annotations": applied });
    let secret = serde_json::json!({ "metadata": metadata, "data": { "a": data }, "stringData": { "b": text } });
    assert_eq!(local(&home, "POST", SECRETS, &secret.to_string()).0, 201);
    let release = serde_json::json!({
        "metadata": { "name": "sh.helm.release.v1.web.v1" }, "type": "helm.sh/release.v1", "data": { "release": data },
    });
    assert_eq!(local(&home, "POST", SECRETS, &release.to_string()).0, 201);
    assert_eq!(found(), [""; 0]);
    assert!(!files_with(&home.state, "by-kubectl").is_empty(), "what is looked for could be found");
    let log = daemon.stop().join("\n");
    assert!(!log.contains(text) && !log.contains(&data));

    let path = home.simulated_state().join("store");
    let key = "plain/secrets/red/former";
    let open = || anweddol::store::open(&path, anweddol::store::Options::default()).unwrap();
    let former = serde_json::json!({ "metadata": { "name": "former", "namespace": "red" }, "data": { "a": data } });
    let store = open();
    store.txn(Txn::default().put(key, &former)).wait().unwrap();
    drop(store);
    assert!(!found().is_empty(), "it is there as a former version wrote it");
    let daemon = home.start();
    for name in ["by-kubectl", "former"] {
        let (code, read) = local(&home, "GET", &format!("{SECRETS}/{name}"), "");
        assert_eq!((code, &read["data"]["a"]), (200, &Value::from(data.as_str())), "{name}");
    }
    daemon.stop();
    let value = open().get(key).unwrap().0.unwrap().value;
    assert!(value.starts_with(b"v1:") && !holds(&value, &data));
    // What a store has written over is in its file until that is made anew.
    let state = home.simulated_state();
    let saved = dir.path().join("saved");
    let run = |args: &[&str]| {
        let output = finish(program(args).arg("--state").arg(&state));
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    };
    run(&["store", "check"]);
    run(&["store", "export", saved.to_str().unwrap()]);
    run(&["store", "import", "--replace", saved.to_str().unwrap()]);
    for entry in fs::read_dir(&state).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("store.replaced-") {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    assert_eq!(found(), [""; 0]);
    assert!(!holds(&fs::read(&saved).unwrap(), &data[..24]), "an export is as sealed");
    let daemon = home.start();
    assert_eq!(local(&home, "GET", &format!("{SECRETS}/former"), "").1["data"]["a"], data);
    daemon.stop();
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
    let of_process = |name: &str| match fs::read(format!("/proc/{}/{name}", daemon.pid())) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // Only root sees into a daemon.
        Err(error) if error.kind() == PermissionDenied && !geteuid().is_root() => String::new(),
        Err(error) => panic!("{name}: {error}"),
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
    assert!(environment.contains("RUST_LOG") || !geteuid().is_root());
    assert!(arguments.contains("serve") && metrics.contains("anweddol_"));
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

/// A user that is nobody's.
const OTHER: u32 = 65_533;

#[test]
fn no_crash_and_no_neighbour_shows_the_memory_of_a_daemon() {
    // What a daemon does not take away itself, it would have.
    let most = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: most, maximum: most }).unwrap();
    let dir = tempdir().unwrap();
    let home = Home::new(dir.path(), "").with_vectors_key().simulated("");
    // As root, on behalf of somebody who is not: for root nothing is closed.
    let root = geteuid().is_root();
    let home = if root { home.upgraded(&dir.path().join("anweddol")).of_user(dir.path(), OTHER) } else { home };
    let mut daemon = home.start();
    let neighbour = |mut command: Command| if root { command.uid(OTHER).gid(OTHER).output() } else { command.output() };
    let opens = |pid: u32, file: &str| {
        let mut command = Command::new("dd");
        command.args([&format!("if=/proc/{pid}/{file}"), "of=/dev/null", "count=0", "status=none"]);
        neighbour(command).unwrap().status.success()
    };
    let mut sleep = Command::new("sleep");
    let mut other = if root { sleep.uid(OTHER).gid(OTHER) } else { &mut sleep }.arg("600").spawn().unwrap();
    // Begun, and not only forked: what is not yet the other program is this one.
    until("another program", || {
        fs::read(format!("/proc/{}/cmdline", other.id())).unwrap().starts_with(b"sleep").then_some(())
    });
    let control = opens(other.id(), "environ");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(control, "of another program a neighbour would see it");
    for file in ["environ", "mem", "maps", "fd"] {
        assert!(!opens(daemon.pid(), file), "a neighbour sees {file}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    kill_process(Pid::from_raw(daemon.pid().cast_signed()).unwrap(), Signal::ABORT).unwrap();
    let end = until("its end", || daemon.end());
    assert!(end.signal() == Some(Signal::ABORT.as_raw()) && !end.core_dumped(), "{end}");
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}
