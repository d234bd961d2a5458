//! `anweddol token` and `anweddol kubeconfig`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hyper::{Method, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::Daemon;
use super::table::Rows;
use super::{namespace, tell_once, yaml};
use crate::api::access::Role;
use crate::cli::{ConfigArgs, Output, Result, duration};
use crate::manifest::time::{age, ahead};
use crate::model::{API_VERSION, DEFAULT_NAMESPACE};

#[derive(Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Make a token; it is printed once
    #[command(after_help = "Roles: admin (everything), edit (write objects), view (read objects),
claim (make and delete claims, read their logins).

Example:
  anweddol token add ci --role claim --namespace ci --ttl 30d")]
    Add(AddArgs),
    /// List the tokens there are
    List(ListArgs),
    /// Delete a token: whoever uses it is refused from then on
    Delete(DeleteArgs),
}

#[derive(Args)]
pub(in crate::cli) struct AddArgs {
    /// What it is called
    #[arg(value_parser = namespace)]
    name: String,
    #[command(flatten)]
    grant: GrantArgs,
    /// How it is printed
    #[arg(long, short, default_value = "text")]
    output: Output,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What a token is good for.
#[derive(Args)]
struct GrantArgs {
    /// What it may do: admin, edit, view or claim
    #[arg(long, value_name = "ROLE")]
    role: Role,
    /// The namespace it holds in; without it, all
    #[arg(long, short, value_parser = namespace, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How long it holds, as 12h or 30d; without it, until it is deleted
    #[arg(long, value_parser = duration::seconds, value_name = "TIME")]
    ttl: Option<u32>,
}

#[derive(Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
pub(in crate::cli) struct DeleteArgs {
    /// Which
    #[arg(value_parser = namespace)]
    name: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
#[command(after_help = "Example:
  anweddol kubeconfig --name anna --role edit > anna.kubeconfig
  kubectl --kubeconfig anna.kubeconfig get all")]
pub(in crate::cli) struct KubeconfigArgs {
    /// What its token is called
    #[arg(long, default_value = "kubeconfig", value_parser = namespace, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    grant: GrantArgs,
    /// The address that clients reach the daemon by, if it is another one than it listens on; its name has to be in
    /// 'server.api_names'
    #[arg(long, value_parser = https, value_name = "https://HOST:PORT")]
    server: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// An address that a kubeconfig can name: over anything but TLS its token would be everybody's.
fn https(text: &str) -> std::result::Result<String, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("https"));
    let good = uri.is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if good { Ok(text.into()) } else { Err("write https://HOST:PORT, as https://machines.example.org:6151".into()) }
}

fn path(name: Option<&str>) -> String {
    let all = format!("/apis/{API_VERSION}/tokens");
    name.map_or(all.clone(), |name| format!("{all}/{name}"))
}

async fn add(daemon: &Daemon, name: &str, grant: &GrantArgs) -> Result<Value> {
    let spec = json!({ "role": grant.role.name(), "namespace": grant.namespace, "ttlSeconds": grant.ttl });
    let body = json!({ "metadata": { "name": name }, "spec": spec });
    Ok(daemon.ask(Method::POST, &path(None), Some(&body)).await?.value)
}

pub(in crate::cli) async fn token(command: TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Add(args) => {
            let daemon = Daemon::of(&args.config)?;
            let made = add(&daemon, &args.name, &args.grant).await?;
            let text = match args.output {
                Output::Json => made.to_string(),
                Output::Text => made["status"]["token"].as_str().unwrap_or_default().to_owned(),
            };
            tell_once(&daemon, &path(Some(&args.name)), &(text + "\n")).await?;
        }
        TokenCommand::List(args) => {
            let listed = Daemon::of(&args.config)?.get(&path(None)).await?;
            let now = Timestamp::now();
            let head = ["NAME", "ROLE", "NAMESPACE", "EXPIRES", "AGE"].map(str::to_owned).to_vec();
            let row = |token: &Value| {
                let word = |value: &Value| value.as_str().unwrap_or("<all>").to_owned();
                let (meta, spec) = (&token["metadata"], &token["spec"]);
                let ends = ahead(&token["status"]["expiresAt"], now);
                vec![
                    word(&meta["name"]),
                    word(&spec["role"]),
                    word(&spec["namespace"]),
                    ends,
                    age(&meta["creationTimestamp"], now),
                ]
            };
            let rows = listed["items"].as_array().into_iter().flatten().map(row);
            print!("{}", Rows::default().lines(std::iter::once(head).chain(rows).collect()));
        }
        TokenCommand::Delete(args) => {
            Daemon::of(&args.config)?.ask(Method::DELETE, &path(Some(&args.name)), None).await?;
            println!("token/{} deleted", args.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(in crate::cli) async fn kubeconfig(args: KubeconfigArgs) -> Result<ExitCode> {
    let daemon = Daemon::of(&args.config)?;
    let made = add(&daemon, &args.name, &args.grant).await?;
    let status = &made["status"];
    let Some(listens) = status["server"].as_str() else {
        daemon.ask(Method::DELETE, &path(Some(&args.name)), None).await?;
        return Err("the daemon serves no HTTPS: set 'server.api_listen' in its configuration".into());
    };
    let server = args.server.as_deref().unwrap_or(listens);
    let name = "anweddol";
    let cluster = json!({ "server": server, "certificate-authority-data": status["certificateAuthorityData"] });
    let space = args.grant.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": cluster }],
        "users": [{ "name": args.name, "user": { "token": status["token"] } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": args.name, "namespace": space } }],
        "current-context": name,
    });
    tell_once(&daemon, &path(Some(&args.name)), &yaml(&config)?).await?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_daemon_is_one_of_https() {
        for good in ["https://host:6151", "https://host", "https://[::1]:6151", "https://192.0.2.7:1/"] {
            assert!(https(good).is_ok(), "{good} is refused");
        }
        for bad in ["", "host", "host:6151", "http://host:6151", "https://", "https://:6151", "/host", "https://a b"] {
            assert!(https(bad).is_err(), "{bad} was taken");
        }
    }
}
