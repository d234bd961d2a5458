//! `anweddol delete`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use tokio::time::{Instant, sleep};

use super::client::{Daemon, code, path_of};
use super::{NamespaceArgs, REFUSED, files, named, tell_refusal, title};
use crate::cli::{ConfigArgs, Result};
use crate::model::ObjectRef;

/// How often it is looked whether something is gone.
const POLL: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(after_help = "Examples:
  anweddol delete claim mine
  anweddol delete container/a container/b --wait
  anweddol delete -f pool.yaml          what the manifest describes

What the daemon refuses is told, and the others are deleted all the same; the exit code is 3 then.
A pool's machines that wait go with it; those in use stay until their claims end.")]
pub(in crate::cli) struct DeleteArgs {
    /// KIND NAME…, or KIND/NAME…
    #[arg(value_name = "KIND NAME", required_unless_present = "filenames", conflicts_with = "filenames")]
    objects: Vec<String>,
    /// The objects of these manifests
    #[arg(long = "filename", short = 'f', value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// Wait until they are gone
    #[arg(long)]
    wait: bool,
    /// Seconds to wait
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
    /// Count what is not there as deleted
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn delete(args: DeleteArgs) -> Result<ExitCode> {
    let objects: Vec<ObjectRef> = if args.filenames.is_empty() {
        named(&args.objects, &args.namespace.namespace)?
    } else {
        files::good(&args.filenames)?.iter().rev().map(|located| located.manifest.object_ref()).collect()
    };
    let daemon = Daemon::of(&args.config)?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let (mut going, mut refused) = (Vec::new(), false);
    for object in objects {
        let uid = match daemon.find(&object).await? {
            Some(found) => found["metadata"]["uid"].clone(),
            None if args.ignore_not_found => continue,
            // The daemon says it in its words.
            None => serde_json::Value::Null,
        };
        match daemon.ask(Method::DELETE, &path_of(&object), None).await {
            Ok(_) => println!("{} deleted", title(&object)),
            Err(error) if args.ignore_not_found && code(&*error) == Some(404) => continue,
            Err(error) => {
                tell_refusal(error)?;
                refused = true;
                continue;
            }
        }
        going.push((object, uid));
    }
    for (object, uid) in going.iter().filter(|_| args.wait) {
        // One of the same name that was made anew is another one.
        while daemon.find(object).await?.is_some_and(|found| found["metadata"]["uid"] == *uid) {
            if Instant::now() > deadline {
                let seconds = args.timeout;
                return Err(format!("{} is not gone after {seconds} s; its end goes on", title(object)).into());
            }
            sleep(POLL).await;
        }
    }
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}
