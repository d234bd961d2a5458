//! Asking a server: create, extend, destroy, stat, list.

use std::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::access_token::AccessArgs;
use super::credentials::{Credentials, Saved};
use super::{CreateArgs, DestroyArgs, ExtendArgs, Output, OutputArgs, Result, ServerArgs, StatArgs, duration};
use crate::client::{ClientConfig, WireClient};
use crate::plan::public_key::{self, PublicKeyError};
use crate::wire::{CREATE, DEFAULT_PORT, DESTROY, EXTEND, Generation, Message, Request, Response, STAT};

/// The exit code of a server's no.
const REFUSED: u8 = 3;

/// What a server should have told and did not.
#[derive(Debug, thiserror::Error)]
#[error("the server's answer has no usable '{field}': it may speak another version of the protocol")]
struct Incomplete {
    field: &'static str,
}

/// The longest public key file that is read.
const KEY_FILE: u64 = 8 << 10;
/// What a server says where not the machine is unknown, but the access token is not good.
const ACCESS_REFUSED: &str = "access token";
/// How long the first and the last pause is before a full server is asked again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What became of a machine whose login cannot be kept.
#[derive(Debug, thiserror::Error)]
enum Unsaved {
    #[error("the machine was given back, since its login cannot be kept")]
    GivenBack(#[source] Box<dyn Error + Send + Sync>),
    #[error("the machine could not be given back ({why}) and lives on; its login is printed, and is kept nowhere else")]
    Left {
        why: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What is wrong with a public key file.
#[derive(Debug, thiserror::Error)]
enum KeyFileError {
    #[error("public key '{}' cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("'{}' is no public key: name the .pub file", path.display())]
    NoKey {
        path: PathBuf,
        #[source]
        source: PublicKeyError,
    },
}

pub(super) async fn create(args: CreateArgs) -> Result<ExitCode> {
    let credentials = Credentials::of_user();
    // A machine whose login cannot be kept is worth nothing.
    credentials.prepare()?;
    if let Some(name) = &args.name {
        credentials.check_name(name)?;
    }
    let mut wishes = wishes(&args)?;
    args.server.access.show(&mut wishes, None)?;
    let access_token_file = args.server.access.file()?;
    let request = Request::new(CREATE, wishes);
    let (server, response) = patiently(&args, &request).await?;
    if !response.success {
        return Ok(refused(&response, args.output.output));
    }
    let kept = saved(server, &response.data).and_then(|mut saved| {
        (saved.name, saved.access_token_file) = (args.name, access_token_file);
        credentials.save(&saved)?;
        Ok(saved)
    });
    let saved = match kept {
        Ok(saved) => saved,
        Err(source) => return Err(unsaved(&args.server, response.data, source).await.into()),
    };
    // The originals take parameters that they do not know, and leave it at that.
    if args.ttl.is_some() && saved.expires_at.is_none() {
        eprintln!("warning: the server says nothing about a time to live; it may not know any");
    }
    if args.output.output == Output::Json {
        println!("{}", Value::Object(response.data));
    } else if !args.ssh {
        tell(&saved);
    }
    if args.ssh { super::ssh::ssh(Some(&saved.container_uuid), &[]) } else { Ok(ExitCode::SUCCESS) }
}

/// Gives back what cannot be kept. Where that fails too, whoever reads what is printed can log in, and give it back.
async fn unsaved(args: &ServerArgs, data: Map<String, Value>, source: Box<dyn Error + Send + Sync>) -> Unsaved {
    match give_back(args, &data).await {
        Ok(()) => Unsaved::GivenBack(source),
        Err(error) => {
            println!("{}", Value::Object(data));
            Unsaved::Left { why: crate::error_chain(&*error), source }
        }
    }
}

async fn give_back(args: &ServerArgs, data: &Map<String, Value>) -> Result<()> {
    let mut parameters = Map::new();
    for field in ["container_uuid", "client_token"] {
        parameters.insert(field.into(), data.get(field).cloned().ok_or(Incomplete { field })?);
    }
    args.access.show(&mut parameters, None)?;
    let (_, response) = ask(args, &Request::new(DESTROY, parameters), Duration::from_secs(60)).await?;
    if response.success { Ok(()) } else { Err(printable(&response.message).into()) }
}

fn tell(saved: &Saved) {
    let short = saved.name.as_deref().unwrap_or(&saved.container_uuid[..8]);
    println!("container  {}", saved.container_uuid);
    println!("image      {}", saved.container_iso_sha256);
    println!("user       {}", saved.container_username);
    println!("password   {}", saved.container_password);
    if let Some(at) = saved.expires_at {
        println!("lives      {}, until {at:.0}", left(at));
    }
    println!("reach it   ssh -p {} {}@{}", saved.container_listen_port, saved.container_username, saved.host());
    println!("           anweddol ssh {short}        (without typing the password)");
    println!("give back  anweddol destroy {short}");
}

/// What is asked for beside a machine. Only what was typed is sent: the originals know none of it.
fn wishes(args: &CreateArgs) -> Result<Map<String, Value>> {
    let mut wishes = Map::new();
    if let Some(pool) = &args.pool {
        wishes.insert("pool".into(), pool.clone().into());
    }
    if let Some(ttl) = args.ttl {
        wishes.insert("ttl".into(), ttl.into());
    }
    if let Some(path) = &args.ssh_key {
        let unreadable = |source| KeyFileError::Unreadable { path: path.clone(), source };
        let mut text = String::new();
        File::open(path).map_err(unreadable)?.take(KEY_FILE).read_to_string(&mut text).map_err(unreadable)?;
        let key = public_key::read(text.trim()).map_err(|source| KeyFileError::NoKey { path: path.clone(), source })?;
        wishes.insert("ssh_public_key".into(), key.into());
    }
    Ok(wishes)
}

/// Asks, and asks a full server again, if its user wants to wait, until their patience ends.
async fn patiently(args: &CreateArgs, request: &Request) -> Result<(String, Response)> {
    let patience = Duration::from_secs(args.timeout.into());
    let (begin, mut pause) = (Instant::now(), ASK_AGAIN.0);
    let progress = spinner("waiting for a machine");
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        let (server, response) = ask(&args.server, request, left).await?;
        let again = args.wait && response.kind() == Some(Message::Unavailable);
        if !again || begin.elapsed() + pause >= patience {
            progress.finish_and_clear();
            return Ok((server, response));
        }
        progress.set_message("no machine is free; waiting for one");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN.1);
    }
}

pub(super) async fn extend(args: ExtendArgs) -> Result<ExitCode> {
    let credentials = Credentials::of_user();
    let mut saved = credentials.find(args.container.as_deref())?;
    let mut parameters = pair(&saved);
    parameters.insert("ttl".into(), args.ttl.into());
    args.access.show(&mut parameters, saved.access_token_file.as_deref())?;
    let server = ServerArgs::of(&saved, 2);
    let (_, response) = ask(&server, &Request::new(EXTEND, parameters), Duration::from_secs(30)).await?;
    if !response.success {
        return Ok(refused(&response, args.output.output));
    }
    saved.expires_at = expiry(&response.data);
    let at = saved.expires_at.ok_or(Incomplete { field: "container_ttl" })?;
    credentials.save(&saved)?;
    match args.output.output {
        Output::Json => {
            let mut told = response.data;
            told.insert("container_uuid".into(), saved.container_uuid.clone().into());
            println!("{}", Value::Object(told));
        }
        Output::Text => println!("{}  lives {}, until {at:.0}", saved.container_uuid, left(at)),
    }
    Ok(ExitCode::SUCCESS)
}

impl ServerArgs {
    /// A machine's server.
    fn of(saved: &Saved, generation: u8) -> Self {
        let access = AccessArgs::default();
        ServerArgs { server: saved.server.clone(), fingerprint: None, generation, access }
    }
}

/// What names a machine to its server and proves the right to it.
fn pair(saved: &Saved) -> Map<String, Value> {
    Map::from_iter([
        ("container_uuid".to_owned(), saved.container_uuid.clone().into()),
        ("client_token".to_owned(), saved.client_token.clone().into()),
    ])
}

/// When a machine ends that a server gives so many seconds: by our own clock, which need not be the server's.
fn expiry(data: &Map<String, Value>) -> Option<Timestamp> {
    let ttl = data.get("container_ttl")?.as_u64().and_then(|ttl| u32::try_from(ttl).ok())?;
    Timestamp::now().checked_add(SignedDuration::from_secs(ttl.into())).ok()
}

fn left(at: Timestamp) -> String {
    let seconds = at.duration_since(Timestamp::now()).as_millis().max(0) + 500;
    duration::shown(u64::try_from(seconds / 1000).unwrap_or_default())
}

pub(super) async fn destroy(args: DestroyArgs) -> Result<ExitCode> {
    let credentials = Credentials::of_user();
    let saved = credentials.find(args.container.as_deref())?;
    let mut parameters = pair(&saved);
    args.access.show(&mut parameters, saved.access_token_file.as_deref())?;
    let server = ServerArgs::of(&saved, args.generation);
    let progress = spinner("giving it back");
    let (_, response) = ask(&server, &Request::new(DESTROY, parameters), Duration::from_secs(60)).await?;
    progress.finish_and_clear();
    // It was destroyed before, ended by itself, or never was this server's: there is nothing left to log in to.
    let unknown = response.kind() == Some(Message::BadAuthentication) && !response.message.contains(ACCESS_REFUSED);
    let gone = response.success || unknown;
    if gone {
        credentials.forget(&saved.container_uuid);
    }
    if !response.success {
        if gone {
            eprintln!("the server knows no such machine (any more); its saved login was removed");
        }
        return Ok(refused(&response, args.output.output));
    }
    match args.output.output {
        Output::Json => println!("{}", json!({ "container_uuid": saved.container_uuid, "destroyed": true })),
        Output::Text => println!("destroyed  {}", saved.container_uuid),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn stat(args: StatArgs) -> Result<ExitCode> {
    let mut parameters = Map::new();
    args.server.access.show(&mut parameters, None)?;
    let (_, response) = ask(&args.server, &Request::new(STAT, parameters), Duration::from_secs(30)).await?;
    if !response.success {
        return Ok(refused(&response, args.output.output));
    }
    match args.output.output {
        Output::Json => println!("{}", Value::Object(response.data)),
        Output::Text => {
            for (name, value) in &response.data {
                let value = value.as_str().map_or_else(|| value.to_string(), printable);
                let unit = if name == "uptime" { " s" } else { "" };
                println!("{:<10} {value}{unit}", printable(name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(args: OutputArgs) -> Result<ExitCode> {
    let all = Credentials::of_user().list()?;
    match args.output {
        Output::Json => {
            let rows: Vec<Value> = all
                .iter()
                .map(|saved| {
                    json!({
                        "container_uuid": saved.container_uuid,
                        "server": saved.server,
                        "container_username": saved.container_username,
                        "container_listen_port": saved.container_listen_port,
                        "name": saved.name,
                        "expires_at": saved.expires_at,
                    })
                })
                .collect();
            println!("{}", Value::Array(rows));
        }
        Output::Text if all.is_empty() => eprintln!("no machines: 'anweddol create' asks for one"),
        Output::Text => {
            println!("{:<36}  {:<22}  {:<10}  {:<5}  {:<8}  NAME", "CONTAINER", "SERVER", "USER", "PORT", "LEFT");
            for saved in all {
                let (uuid, server, port) = (&saved.container_uuid, &saved.server, saved.container_listen_port);
                let (left, name) =
                    (saved.expires_at.map_or("-".into(), left), saved.name.as_deref().unwrap_or_default());
                let line =
                    format!("{uuid:<36}  {server:<22}  {:<10}  {port:<5}  {left:<8}  {name}", saved.container_username);
                println!("{}", line.trim_end());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects, checks who it is, asks. Returns the server's address in full, and its answer.
async fn ask(args: &ServerArgs, request: &Request, patience: Duration) -> Result<(String, Response)> {
    let server = with_port(&args.server);
    let config = ClientConfig {
        generation: if args.generation == 1 { Generation::First } else { Generation::Second },
        expect: args.fingerprint,
        answer_timeout: patience,
        ..ClientConfig::default()
    };
    let client = WireClient::connect(&server, &config).await?;
    Credentials::of_user().check_server(&server, &client.fingerprint().to_string())?;
    Ok((server, client.ask(request).await?))
}

fn with_port(server: &str) -> String {
    let bare_v6 = server.parse::<std::net::Ipv6Addr>().is_ok();
    match server.rsplit_once(':') {
        _ if bare_v6 => format!("[{server}]:{DEFAULT_PORT}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => server.into(),
        _ => format!("{server}:{DEFAULT_PORT}"),
    }
}

/// Takes a grant apart. It comes from the network: what ends up in a path or in arguments is checked.
fn saved(server: String, data: &Map<String, Value>) -> Result<Saved> {
    let text = |field: &'static str| data.get(field).and_then(Value::as_str).ok_or(Incomplete { field });
    let word = |field: &'static str| {
        let text = text(field)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let good = !text.is_empty() && !text.starts_with('-') && text.chars().all(plain);
        if good { Ok(text.to_owned()) } else { Err(Incomplete { field }) }
    };
    let uuid: uuid::Uuid = text("container_uuid")?.parse().map_err(|_| Incomplete { field: "container_uuid" })?;
    let port = data.get("container_listen_port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    Ok(Saved {
        server,
        container_uuid: uuid.to_string(),
        client_token: text("client_token")?.into(),
        container_iso_sha256: word("container_iso_sha256")?,
        container_username: word("container_username")?,
        container_password: word("container_password")?,
        container_listen_port: port.ok_or(Incomplete { field: "container_listen_port" })?,
        access_token_file: None,
        name: None,
        expires_at: expiry(data),
    })
}

fn refused(response: &Response, output: Output) -> ExitCode {
    let message = printable(&response.message);
    if output == Output::Json {
        println!("{}", json!({ "success": false, "message": message }));
    }
    eprintln!("the server says: {message}");
    ExitCode::from(REFUSED)
}

/// What a server says, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Shows on a terminal that something goes on; nothing elsewhere.
fn spinner(message: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_port_gets_the_documented_one() {
        for (given, full) in [
            ("host", "host:6150"),
            ("host:7000", "host:7000"),
            ("10.0.0.1", "10.0.0.1:6150"),
            ("::1", "[::1]:6150"),
            ("[::1]:7000", "[::1]:7000"),
        ] {
            assert_eq!(with_port(given), full);
        }
    }

    #[test]
    fn a_grant_that_could_harm_this_host_is_refused() {
        let good = json!({
            "container_uuid": "0d3c2f0e-6c1b-4d54-9a3b-6f1f3d0c9a11", "client_token": "t",
            "container_iso_sha256": "00", "container_username": "user_12345", "container_password": "p",
            "container_listen_port": 10_000,
        });
        let Value::Object(good) = good else { unreachable!() };
        assert!(saved("h:1".into(), &good).is_ok());
        for (field, value) in [
            ("container_uuid", json!("../../x")),
            ("container_username", json!("-oProxyCommand=x")),
            ("container_username", json!("a b")),
            ("container_password", json!("a\nb")),
            ("container_listen_port", json!(70_000)),
            ("container_listen_port", json!("22")),
        ] {
            let mut bad = good.clone();
            bad.insert(field.into(), value.clone());
            assert!(saved("h:1".into(), &bad).is_err(), "{field} {value} was taken");
        }
    }
}
