//! `anweddol store rebuild`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ConfigArgs, Output, OutputArgs, Result, admin};
use crate::daemon::rebuild::{self, RebuildError, Replaces, Report, Run, Unreadable, Wish};
use crate::model::{Keepsake, Mark};
use crate::plan::lifetime;
use crate::plan::rebuild::Left;
use crate::store::records::{ACCESS_TOKENS, PLAIN, TOKENS};

#[derive(Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The installation whose machines they are, if machines of several run here and the state directory does not say
    #[arg(long, value_name = "UUID")]
    instance: Option<Uuid>,
    /// Only say what would be in the new store
    #[arg(long)]
    dry_run: bool,
    /// Go on without machines that may be in use and whose records cannot be read: the next start ends them
    #[arg(long)]
    leave_out: bool,
    /// Also if the store is whole, or nothing of it can be carried over
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn rebuild(args: &RebuildArgs) -> Result<ExitCode> {
    let config = admin::config_as_owner(&args.config)?;
    let wish = Wish {
        instance: args.instance,
        run: if args.dry_run { Run::Dry } else { Run::Write },
        unreadable: if args.leave_out { Unreadable::LeaveOut } else { Unreadable::Refuse },
        replaces: if args.replace { Replaces::Anything } else { Replaces::Damaged },
        now: jiff::Timestamp::now(),
    };
    let report = rebuild::rebuild(&config, &wish);
    if let Err(RebuildError::InUse { left }) = &report {
        left.iter().for_each(|left| eprintln!("{}", line(left)));
    }
    let report = report?;
    match args.output.output {
        Output::Json => println!("{}", as_json(&report, wish.run)),
        Output::Text => as_text(&report, wish.run),
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(report: &Report, run: Run) {
    for machine in &report.machines {
        let c = &machine.container;
        let claim = machine.claim.as_ref().map_or("no claim", |claim| claim.metadata.name.as_str());
        println!("rebuilt   {}/{}  {claim}  port {}", c.metadata.namespace, c.metadata.name, c.spec.machine.port);
    }
    report.left.iter().for_each(|left| println!("{}", line(left)));
    let [access_tokens, tokens, plain] = carried(report);
    println!(
        "carried   {access_tokens} access tokens, {tokens} API tokens, {plain} namespaces, leases and secrets, from the old store"
    );
    if !report.losses.is_empty() {
        println!("lost      access tokens, API tokens and secrets but for those have to be made again:");
        report.losses.iter().for_each(|loss| println!("          {loss}"));
    }
    if let Some(aside) = &report.aside {
        println!("aside     {}", aside.display());
    }
    let pools = pools(report);
    if !pools.is_empty() {
        println!(
            "pools     {} (what a manifest or the configuration does not keep has to be applied again)",
            pools.join(", ")
        );
    }
    match (run, report.instance) {
        (Run::Dry, _) => println!("nothing was written (--dry-run)"),
        (Run::Write, Some(instance)) => {
            println!("written   the store of {instance}, {} machines", report.machines.len())
        }
        (Run::Write, None) => println!("written   an empty store: no machine runs here"),
    }
}

fn line(left: &Left) -> String {
    let Mark { namespace, name, .. } = &left.mark;
    format!("left out  {namespace}/{name}: {}", crate::error_chain(&left.why))
}

/// How many there are that people hold keys of, or keep here.
fn carried(report: &Report) -> [usize; 3] {
    let below = |prefix| report.carried.iter().filter(|kv| kv.key.starts_with(prefix)).count();
    [ACCESS_TOKENS, TOKENS, PLAIN].map(below)
}

/// The pools that these machines count against.
fn pools(report: &Report) -> Vec<String> {
    let of = |machine: &Keepsake| {
        let pool = machine.container.spec.pool.as_ref()?;
        Some(format!("{}/{pool}", machine.container.metadata.namespace))
    };
    report.machines.iter().filter_map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

fn as_json(report: &Report, run: Run) -> Value {
    let machines: Vec<Value> = report.machines.iter().map(machine).collect();
    let left = report.left.iter().map(|left| {
        let Mark { namespace, name, uid, .. } = &left.mark;
        let why = crate::error_chain(&left.why);
        json!({ "namespace": namespace, "name": name, "uid": uid, "reason": why, "mayBeInUse": left.why.in_use() })
    });
    let [access_tokens, tokens, plain] = carried(report);
    json!({
        "instance": report.instance,
        "written": run == Run::Write,
        "machines": machines,
        "leftOut": left.collect::<Vec<_>>(),
        "pools": pools(report),
        "carried": { "accessTokens": access_tokens, "tokens": tokens, "plain": plain },
        "losses": report.losses,
        "aside": report.aside,
    })
}

fn machine(machine: &Keepsake) -> Value {
    let c = &machine.container;
    let asked = machine.claim.as_ref().and_then(|claim| claim.spec.ttl_seconds);
    let since = c.status.bound_at.or(c.status.ready_at);
    let expires_at = since.and_then(|since| lifetime::deadline(&c.spec.template.lifetime, asked, since));
    json!({
        "namespace": c.metadata.namespace,
        "name": c.metadata.name,
        "uid": c.uuid(),
        "claim": machine.claim.as_ref().map(|claim| &claim.metadata.name),
        "port": c.spec.machine.port,
        "expiresAt": expires_at,
    })
}
