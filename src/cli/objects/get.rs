//! `anweddol get`.

use std::convert::Infallible;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{Daemon, encode, path_of_kind};
use super::follow::Follow;
use super::table::{Rows, head, row};
use super::{KindName, NamespaceArgs, object_of, title, yaml};
use crate::cli::{ConfigArgs, Result};
use crate::manifest::selector::Selector;
use crate::model::{API_VERSION, Kind, ObjectRef, valid_name};

#[derive(Args)]
#[command(
    after_help = "Kinds: pool, container, claim, or all; also containerpools, ctr, claims …, several with commas.

Examples:
  anweddol get pools
  anweddol get containers -o wide -w
  anweddol get claim mine -o yaml
  anweddol get all -l team=red"
)]
pub(in crate::cli) struct GetArgs {
    /// KIND, several with commas, or 'all'
    #[arg(value_name = "KIND")]
    kinds: String,
    /// One object only
    name: Option<String>,
    /// How they are printed
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Go on with every change
    #[arg(long, short)]
    watch: bool,
    /// Only objects with these labels: KEY=VALUE, KEY!=VALUE, KEY, !KEY
    #[arg(long, short = 'l', value_parser = selector, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Of all namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// More columns
    Wide,
    /// As a manifest, with what the daemon adds
    Yaml,
    /// For programs
    Json,
    /// KIND/NAME
    Name,
}

/// Checked here, so that a wrong one is a wrong command.
fn selector(text: &str) -> std::result::Result<String, String> {
    text.parse::<Selector>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl GetArgs {
    /// The kinds, and the name, from `KIND NAME` or `KIND/NAME`.
    fn wanted(&self) -> Result<(Vec<Kind>, Option<String>)> {
        let (kinds, name) = match (self.kinds.split_once('/'), &self.name) {
            (Some((kind, name)), None) => (kind, Some(name.to_owned())),
            (Some(_), Some(_)) => return Err("write KIND NAME or KIND/NAME, not both".into()),
            (None, name) => (self.kinds.as_str(), name.clone()),
        };
        if let Some(name) = &name {
            valid_name(name)?;
        }
        if kinds == "all" {
            return Ok((Kind::ALL.to_vec(), name));
        }
        let kinds = kinds.split(',').map(|kind| kind.parse().map(|KindName(kind)| kind));
        Ok((kinds.collect::<std::result::Result<Vec<Kind>, String>>()?, name))
    }

    fn path(&self, kind: Kind) -> String {
        let namespace = (!self.all_namespaces).then_some(self.namespace.namespace.as_str());
        let selector = self.selector.as_deref().map(|text| format!("?labelSelector={}", encode(text)));
        path_of_kind(kind, namespace) + &selector.unwrap_or_default()
    }

    fn wide(&self) -> bool {
        self.output == Some(Format::Wide)
    }
}

pub(in crate::cli) async fn get(args: GetArgs) -> Result<ExitCode> {
    let (kinds, name) = args.wanted()?;
    let daemon = Daemon::of(&args.config)?;
    match kinds.as_slice() {
        [kind] if args.watch => match watch(&args, &daemon, *kind, name.as_deref()).await? {},
        _ if args.watch => return Err("watch one kind only".into()),
        kinds => show(&args, &daemon, kinds, name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &GetArgs, daemon: &Daemon, kinds: &[Kind], name: Option<String>) -> Result<()> {
    let mut found: Vec<(Kind, Vec<Value>)> = Vec::new();
    for kind in kinds {
        let items = match &name {
            Some(name) => {
                let namespace = args.namespace.namespace.clone();
                let object = ObjectRef { kind: *kind, namespace, name: name.clone() };
                vec![daemon.get(&super::client::path_of(&object)).await?]
            }
            None => match daemon.get(&args.path(*kind)).await?["items"].take() {
                Value::Array(items) => items,
                _ => vec![],
            },
        };
        found.push((*kind, items.into_iter().map(plain).collect()));
    }
    let all = || found.iter().flat_map(|(_, items)| items);
    match args.output {
        None | Some(Format::Wide) => tables(args, &found),
        Some(Format::Name) => all().filter_map(object_of).for_each(|object| println!("{}", title(&object))),
        Some(Format::Yaml) => {
            let documents = all().map(yaml).collect::<Result<Vec<String>>>()?;
            print!("{}", documents.join("---\n"));
        }
        Some(Format::Json) => {
            let one = name.is_some() && kinds.len() == 1;
            let value = match all().next() {
                Some(object) if one => object.clone(),
                _ => json!({ "apiVersion": API_VERSION, "kind": "List", "items": all().collect::<Vec<_>>() }),
            };
            println!("{value:#}");
        }
    }
    Ok(())
}

/// Without what only programs read: who wrote which field. kubectl hides it too.
fn plain(mut object: Value) -> Value {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.shift_remove("managedFields");
    }
    object
}

fn tables(args: &GetArgs, found: &[(Kind, Vec<Value>)]) {
    let (now, wide, namespaced) = (Timestamp::now(), args.wide(), args.all_namespaces);
    let full: Vec<_> = found.iter().filter(|(_, items)| !items.is_empty()).collect();
    if full.is_empty() {
        eprintln!("none found");
    }
    for (index, (kind, items)) in full.iter().enumerate() {
        if index > 0 {
            println!();
        }
        if full.len() > 1 {
            println!("{}", kind.plural());
        }
        let rows = items.iter().map(|object| row(*kind, object, wide, namespaced, now));
        let rows = std::iter::once(head(*kind, wide, namespaced)).chain(rows);
        print!("{}", Rows::default().lines(rows.collect()));
    }
}

/// Goes on until the daemon cannot be reached.
async fn watch(args: &GetArgs, daemon: &Daemon, kind: Kind, name: Option<&str>) -> Result<Infallible> {
    let mut follow = Follow::new(daemon, args.path(kind));
    let (mut rows, mut headed) = (Rows::default(), false);
    loop {
        let (event, object) = follow.next().await?;
        if name.is_some_and(|name| object["metadata"]["name"] != name) {
            continue;
        }
        let object = plain(object);
        match args.output {
            None | Some(Format::Wide) => {
                let (now, wide, namespaced) = (Timestamp::now(), args.wide(), args.all_namespaces);
                let mut lines = if headed { vec![] } else { vec![head(kind, wide, namespaced)] };
                headed = true;
                let mut cells = row(kind, &object, wide, namespaced, now);
                if event == "DELETED" {
                    cells.push("(deleted)".into());
                }
                lines.push(cells);
                print!("{}", rows.lines(lines));
            }
            Some(Format::Name) => object_of(&object).iter().for_each(|object| println!("{}", title(object))),
            Some(Format::Yaml) => println!("{}---", yaml(&object)?),
            Some(Format::Json) => println!("{}", json!({ "type": event, "object": object })),
        }
        // Whoever reads from a pipe reads now.
        std::io::stdout().flush()?;
    }
}
