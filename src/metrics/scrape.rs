//! What is told when somebody asks: everything that was counted, and what there is now.
//!
//! What there is, is read from the store's snapshot, which is in memory. Nothing is asked of the hypervisor: a scrape
//! takes as long when it hangs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::labels::{OfBuild, OfClaim, OfHypervisor, OfPhase, OfPool, OfTurn};
use super::process::{Process, gauge};
use super::{Claimed, Metrics, Start};
use crate::hypervisor::Hypervisor;
use crate::model::{Container, ContainerClaim, ContainerPool, Phase};
use crate::plan::claim;
use crate::store::Store;
use crate::store::records::{self, RecordError};

/// Pools of which each is told; of all there are, only the number.
pub const MOST_POOLS: usize = 200;

/// A form that it is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' own text, version 0.0.4.
    Text,
    /// OpenMetrics' text, version 1.0.0.
    OpenMetrics,
}

impl Form {
    /// The one that whoever sent this `Accept` reads: OpenMetrics is said by who knows it.
    pub fn accepted(accept: &str) -> Form {
        if accept.contains("application/openmetrics-text") { Form::OpenMetrics } else { Form::Text }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Text => prometheus_text::CONTENT_TYPE,
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// Records cannot be read.
    #[error("the records cannot be counted")]
    Record(#[from] RecordError),
    /// The process cannot be looked at.
    #[error("this process cannot be looked at")]
    Process(#[source] std::io::Error),
    /// It cannot be written down.
    #[error("the metrics cannot be written")]
    Text(#[from] fmt::Error),
}

/// Everything that is told.
pub struct Exposition {
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    hypervisor: Arc<dyn Hypervisor>,
    /// What it is, asked once.
    described: String,
}

impl Exposition {
    /// Of these. Asks the hypervisor what it is.
    pub fn new(metrics: Arc<Metrics>, store: Arc<dyn Store>, hypervisor: Arc<dyn Hypervisor>) -> Exposition {
        let described = hypervisor.describe();
        Exposition { metrics, store, hypervisor, described }
    }

    /// Everything, as it is now. Reads all records: not for a task of the runtime.
    pub fn text(&self, form: Form, ready: bool) -> Result<String, ScrapeError> {
        let mut now = Registry::with_prefix("anweddol");
        now.register("ready", "Whether clients are served: what /readyz says", gauge(ready.into()));
        self.about(&mut now);
        self.records(&mut now)?;
        let mut process = Registry::default();
        Process::this().map_err(ScrapeError::Process)?.register(&mut process);
        let mut told = String::new();
        let parts = [&self.metrics.registry, &now, &process];
        match form {
            Form::Text => parts.iter().try_for_each(|part| prometheus_text::encode(&mut told, part))?,
            Form::OpenMetrics => {
                parts.iter().try_for_each(|part| text::encode_registry(&mut told, part))?;
                text::encode_eof(&mut told)?;
            }
        }
        Ok(told)
    }

    fn about(&self, now: &mut Registry) {
        let build = OfBuild {
            version: env!("CARGO_PKG_VERSION"),
            // Whoever builds a package says it.
            revision: option_env!("ANWEDDOL_REVISION").unwrap_or("unknown"),
            otlp: if cfg!(feature = "otlp") { "true" } else { "false" },
        };
        now.register("build", "What this program was built from", Info::new(build));
        let hypervisor = OfHypervisor { hypervisor: self.described.clone() };
        now.register("hypervisor", "What runs the machines, with its version", Info::new(hypervisor));
        let reachable = self.hypervisor.reachable().is_ok();
        now.register("hypervisor_reachable", "Whether it answers, as far as is known", gauge(reachable.into()));
        if let Some(depth) = self.metrics.depth.get() {
            let rows = depth().map(|(state, count)| (OfTurn { state }, count as u64));
            let help = "Objects that want a pass: due now, due later, or under way";
            now.register("queue_objects", help, rows_of(rows));
        }
        let bound = |start| self.metrics.claims.get_or_create(&OfClaim { start, result: Claimed::Bound }).get() as f64;
        let (hits, rest) = (bound(Start::Warm), bound(Start::Rising) + bound(Start::Cold));
        if hits + rest > 0.0 {
            let ratio = Gauge::<f64, AtomicU64>::default();
            ratio.set(hits / (hits + rest));
            let help = "Share of the claims bound since the start that found a machine ready; for a window, take rates of \
                        anweddol_claims_total";
            now.register("claims_hit_ratio", help, ratio);
        }
    }

    fn records(&self, now: &mut Registry) -> Result<(), RecordError> {
        let (records, revision) = self.store.list("")?;
        now.register("store_revision", "The store's revision: the number of its last change", gauge(revision));
        now.register("store_records", "Records in the store, events included", gauge(records.len() as u64));
        let containers = records::list_all::<Container>(&*self.store)?;
        let mut phases = BTreeMap::from(PHASES.map(|one| (phase(one), 0)));
        for c in &containers {
            *phases.entry(phase(c.object.status.phase)).or_default() += 1;
        }
        let rows = phases.into_iter().map(|(phase, count)| (OfPhase { phase }, count));
        now.register("containers", "Containers by phase", rows_of(rows));
        let pools: Vec<ContainerPool> =
            records::list_all::<ContainerPool>(&*self.store)?.into_iter().map(|read| read.object).collect();
        now.register("pools", "Pools", gauge(pools.len() as u64));
        let claims = records::list_all::<ContainerClaim>(&*self.store)?;
        let mut waiting: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for claim in claims.iter().map(|read| &read.object).filter(|claim| claim::waits(claim)) {
            *waiting.entry((&claim.metadata.namespace, &claim.spec.pool)).or_default() += 1;
        }
        let mut each = |name, help, count: &dyn Fn(&ContainerPool) -> u64| {
            let rows = pools.iter().take(MOST_POOLS).map(|pool| (of(pool), count(pool)));
            now.register(name, help, rows_of(rows));
        };
        let wait = |pool: &ContainerPool| {
            let name = (pool.metadata.namespace.as_str(), pool.metadata.name.as_str());
            waiting.get(&name).copied().unwrap_or_default()
        };
        each("pool_replicas_desired", "Machines that a pool is to keep ready", &|p| p.spec.replicas.into());
        each("pool_replicas_ready", "Machines of a pool that are ready", &|p| p.status.ready_replicas.into());
        each("pool_replicas_updated", "Unclaimed machines of its present template", &|p| {
            p.status.updated_replicas.into()
        });
        each("pool_containers_bound", "Machines of a pool that are a claim's", &|p| p.status.bound_containers.into());
        each("pool_containers", "Machines of a pool, of any phase", &|p| p.status.containers.into());
        each("pool_containers_max", "The most machines of a pool at once", &|p| p.spec.max_containers.into());
        each("pool_claims_waiting", "Claims that wait for a place in a pool", &wait);
        Ok(())
    }
}

fn of(pool: &ContainerPool) -> OfPool {
    OfPool { namespace: pool.metadata.namespace.to_string(), pool: pool.metadata.name.clone() }
}

fn rows_of<L>(rows: impl IntoIterator<Item = (L, u64)>) -> Family<L, Gauge>
where
    L: Clone + std::hash::Hash + Eq + EncodeLabelSet,
{
    let family = Family::<L, Gauge>::default();
    for (labels, value) in rows {
        family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    family
}

const PHASES: [Phase; 6] =
    [Phase::Pending, Phase::Booting, Phase::Ready, Phase::Bound, Phase::Failed, Phase::Terminating];

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Booting => "booting",
        Phase::Ready => "ready",
        Phase::Bound => "bound",
        Phase::Failed => "failed",
        Phase::Terminating => "terminating",
    }
}
