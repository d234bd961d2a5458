//! Temporary, SSH-reachable virtual machines: a daemon that keeps them the way a Kubernetes operator keeps its
//! objects, on one Linux host with libvirt, and the command line for it.
//!
//! # The picture
//!
//! ```text
//!  wire client ──► server ──► api ──► Store (sled) ◄─────────────┐   libvirt / guest / forwards
//!                 (sockets)  (rules)     │ changed keys          │                ▲
//!                                        ▼                       │                │
//!                               operator::queue   one pass per object at a time   │
//!                                        │                       │                │
//!        one pass  =  observe ──► plan::decide (PURE) ──► commit ┘ ──► apply one step
//!                                                    status + events,
//!                                                    one durable transaction
//! ```
//!
//! 1. Clients only ever **write desired state**. They never touch a machine.
//! 2. The operator repeats one **pass** per object until nothing is left to do; a pass takes **at most one step**. A
//!    crash is a pass that ended early. Nothing is remembered between passes.
//! 3. What happened to a container is told by **events**, committed with the status they explain.
//! 4. "Committed" means durable: nothing is told, to anybody, before it would survive a power cut.
//!
//! What this adds up to are the seven promises in [`operator`].
//!
//! # Glossary
//!
//! | word | meaning |
//! | --- | --- |
//! | container | one virtual machine, from its wish to its end; the protocol's word for it ([`model::Container`]) |
//! | claim | what CREATE writes and DESTROY deletes: somebody wants a container ([`model::ContainerClaim`]) |
//! | bind | give a claim its container: one transaction, never twice, never another one later |
//! | pool | what containers are made from, how many may be, how many wait ready ([`model::ContainerPool`]) |
//! | member | a container of a pool that waits, ready, for a claim |
//! | outdated | a member of an earlier template or image, by the hash that it bears ([`plan::pool::template_hash`]) |
//! | recycle | replace a member that waited for a claim for as long as it may |
//! | hindered | a pool that wants another member and can make none now; a condition says why ([`plan::pool`]) |
//! | admit | find that the host has room for one more machine ([`plan::admission`]) |
//! | cold start | a container made for a claim that found no member |
//! | promise | name a claim in a container that is not its own yet: it boots, or a key has to be installed |
//! | queue | claims written as objects that wait for a place in their pool, in the order of their creation |
//! | lifetime | how long a machine may be used: time to live, idle timeout, hard maximum ([`plan::lifetime`]) |
//! | release | give back everything of a container without pool but its record, which says how it ended |
//! | anchor | what the daemon's time is counted from, so that a wall clock that jumps moves no deadline ([`plan::clock`]) |
//! | probe | ask a member, now and then, whether its SSH server still answers ([`plan::probe`]) |
//! | doubt | a hint that a member may be dead: it is passed over until it was looked at ([`api::Doubts`]) |
//! | reservation | keeps a member for the client that takes it, while its commit is on the way ([`api::Api`]) |
//! | index | containers and claims as they are, decoded at most once and found by their pool ([`store::Index`]) |
//! | room | how many machines more the host would admit ([`plan::admission::room`]) |
//! | domain | libvirt's word for a machine that runs |
//! | disk | what a machine writes to, over an image that is never written; it goes with its machine |
//! | egress | what a machine may open connections to ([`model::Egress`]) |
//! | mark | what our domains bear in libvirt's metadata; one without it is never touched ([`model::Mark`]) |
//! | keepsake | what the domain of a machine in use bears of its records, to rebuild a lost store from ([`model::Keepsake`]) |
//! | reload | read the configuration again, on SIGHUP, and take up what needs no restart ([`config::reload`]) |
//! | instance | one installation, by the UUID in its store and beside it; part of the mark |
//! | stage | a part of the way to a machine that is measured: exchange, queue, bind, boot, address, SSH, personalise ([`metrics::Stage`]) |
//! | drift, leftover | what is there and what is recorded do not agree; what is ours and has no record ([`plan::drift`]) |
//! | check | something that machines need of their host, judged from facts ([`plan::checks`]) |
//! | teardown | the end of an installation on this host, its records apart ([`daemon::teardown`]) |
//! | pulse | whether the parts answer without which a daemon is none; systemd's watchdog is told of it |
//! | pass | observe, decide, commit, one step: for one object, never two at once |
//! | step | one effect on the world that may be taken again without harm ([`plan::container::Step`]) |
//! | present, absent, unknown | what an observation can be; only a positive *absent* counts as gone ([`model::Seen`]) |
//! | endpoint shell | the SSH session on the account `endpoint` that sets a fresh machine up |
//! | personalise | make the user with their password, lock `endpoint` ([`guest::Shell`]) |
//! | forward | a port of the host that leads to a machine's SSH server ([`guest::Forwarder`]) |
//! | publish, withdraw | open and close a forward |
//! | manifest | a document that says how an object has to be ([`manifest`]) |
//! | keeper | keeps a directory of manifests applied ([`keeper`]) |
//! | door | where the API is reached: a socket for whoever runs the daemon, HTTPS for whoever has a token ([`server::kube`]) |
//! | token, role | who comes in through HTTPS, and what they may ([`api::access`]) |
//! | access token | what lets a client of the wire protocol in, and how much it may take ([`api::access_tokens`]) |
//! | plain object | what is kept for clients and means nothing to the daemon: a lease, a secret ([`api::plain`]) |
//! | apply | say which fields of an object one wants to own, and what they are ([`manifest::fields`]) |
//! | describe | say an object wholly, as manifests do; what is left out has its default ([`api::objects::Verb`]) |
//! | field manager | who writes, by the name that they give themselves; owns what they applied or changed |
//! | hold | keep an object's record from going, by a finalizer; what the operator has to do for its end waits for none |
//! | owner, dependent | an object, and one that goes with it ([`plan::owners`]) |
//! | generation | of the wire protocol: two are spoken, on one port ([`wire::Generation`]) |
//! | embedded, system | the two ways to run machines: libvirt inside this process, or the host's ([`hypervisor::libvirt`]) |
//!
//! # Reading order
//!
//! 1. [`model`], the records; [`plan`], what to do next: [`plan::container`], [`plan::pool`], [`plan::claim`], with
//!    [`plan::placement`], [`plan::lifetime`] and [`plan::admission`]. All pure, and most of what there is to understand.
//! 2. [`operator`]: the promises, and a pass around a decision.
//! 3. The traits [`hypervisor::Hypervisor`], [`guest::Shell`], [`guest::Forwarder`], [`host::Host`] and [`store::Store`]; then whoever
//!    keeps them, as needed.
//! 4. [`wire`], the protocol without sockets; [`server`], the sockets, [`server::web`] those of the original's web server;
//!    [`api`], the rules between them and the store.
//! 5. [`manifest`], objects as people write them, with [`manifest::fields`], who owns what of them; [`api::objects`], the
//!    rules of writing them; [`keeper`], a directory of them that is kept applied; [`server::kube`], the API over them in
//!    the form of Kubernetes, with its two doors, [`server::local`] and [`server::https`]; [`api::access`], who may do what.
//! 6. [`facade`], one run of a server, for programs that embed it; [`cli`] and [`client`], the other end of the line.
//! 7. [`metrics`], what is counted and measured, mostly around the traits and from what is committed.
//! 8. [`daemon`]: the only place that names them all, and the order in which they start and stop; [`daemon::rebuild`],
//!    what to do when the records are lost.
//!
//! Who may name whom is kept by `tests/architecture.rs`.

use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

#[cfg(test)]
mod allocations;
pub mod api;
mod child;
pub mod cli;
pub mod client;
mod clock;
pub mod config;
pub mod daemon;
pub mod facade;
mod failpoint;
pub mod guest;
pub mod host;
pub mod hypervisor;
pub mod keeper;
mod link;
pub mod manifest;
pub mod metrics;
pub mod model;
pub mod operator;
pub mod plan;
pub mod private_file;
mod privilege;
pub mod server;
pub mod store;
mod unwrapped;
pub mod wire;

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes.as_ref()).as_ref())
}

/// A directory of this user's own: below what the variable says, else below their home, which the password database knows
/// too. A relative path leads elsewhere from everywhere: it counts as none.
pub(crate) fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let said = std::env::var_os(variable).map(PathBuf::from).filter(absolute);
    let home = || Some(std::env::home_dir().filter(absolute)?.join(below_home));
    Some(said.or_else(home)?.join("anweddol"))
}

/// An error with its causes, as it is printed once, at the end of its way.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_ones_own_is_never_one_that_depends_on_where_one_is() {
        // Cargo sets both, the second one to a word.
        let said = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("anweddol");
        assert_eq!(user_dir("CARGO_MANIFEST_DIR", "below"), Some(said));
        let at_home = std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join("below/anweddol"));
        assert_eq!(user_dir("CARGO_PKG_NAME", "below"), at_home);
    }
}
