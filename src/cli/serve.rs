//! `anweddol serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{ConfigArgs, Result, admin, log};
use crate::daemon::{self, Reloads, Simulation};

/// How long a thread that nobody needs is kept. Those of a burst are given work in turn, so with tokio's ten seconds the
/// looks at everything would keep them all, a hundred kilobytes each.
const UNUSED: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where wire clients connect, whatever the configuration says
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// A directory of manifests that is kept applied, whatever the configuration says: every *.yaml, *.yml and
    /// *.json in it. Changed files are applied, objects whose manifests went are deleted, and what others change of
    /// them is put back. The files are never written to; one with an error changes nothing
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Simulate: everything is real but the machines. For trying the protocol, client development and load.
    /// boot is the time a machine takes, fail the share of machines that fail
    #[arg(long, value_name = "boot=200ms,fail=0.01", num_args = 0..=1, default_missing_value = "")]
    simulate: Option<Simulation>,
}

pub(super) fn serve(args: ServeArgs) -> Result<ExitCode> {
    let ServeArgs { config, listen, manifests, simulate } = args;
    let source = admin::source(config)?;
    let manifests = manifests.map(std::path::absolute).transpose()?;
    // What is said on the command line is said again at each reload.
    let read = move || {
        let mut config = source.read()?;
        config.server.listen = listen.unwrap_or(config.server.listen);
        config.manifests = manifests.clone().or(config.manifests);
        config.check()?;
        Ok(config)
    };
    let config = read()?;
    admin::act_as_owner(&config)?;
    let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(UNUSED).build()?;
    let spans = {
        let _on = runtime.enter();
        log::begin(&config.observe)?
    };
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let reloads = Reloads { asked: signal(SignalKind::hangup())?, read: Arc::new(read) };
        let asked = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            tracing::info!("stopping; machines live on");
            asked.cancel();
        });
        daemon::serve(config, simulate, reloads, stop).await?;
        Result::Ok(ExitCode::SUCCESS)
    });
    spans.end();
    // Whatever still blocks has had its time: its work is repeated after the next start.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
