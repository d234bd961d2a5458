//! The records: what people wish for, what is, and what happened. Pure data, no IO, no clock.
//!
//! Every kind follows the Kubernetes conventions (`metadata`, `spec`, `status`, conditions): what reads
//! well with `kubectl` reads well in the store.

mod access_token;
mod claim;
mod common;
mod condition;
mod container;
mod event;
mod keepsake;
mod mac;
mod meta;
mod observed;
mod pool;
mod rare;
mod subnet;
mod template;
pub(crate) mod text;
mod trace;

#[cfg(test)]
mod tests;

pub use access_token::{AccessToken, Quotas};
pub use claim::{ClaimPhase, ClaimSpec, ClaimStatus, ContainerClaim, Origin};
pub use common::Common;
pub use condition::{Condition, Said, condition, set_condition, set_unknown};
pub use container::{Container, ContainerSpec, ContainerStatus, Credentials, Machine, Phase};
pub use event::{Client, Event, EventKind, Wake};
#[cfg(test)]
pub(crate) use keepsake::tests::keepsake as keepsake_for_tests;
pub use keepsake::{Keepsake, KeepsakeError, MAX_KEEPSAKE};
pub use mac::{Mac, ParseMacError};
pub use meta::{
    API_VERSION, CONFIGURED, DEFAULT_NAMESPACE, GROUP, Kind, MANAGED_BY, ManagedFields, NameError, Object, ObjectMeta,
    ObjectRef, Operation, OwnerReference, TEMPLATE_HASH, VERSION, valid_name,
};
pub use observed::{DomainSeen, DomainState, Mark, Observed, Pause, Seen};
pub use pool::{ContainerPool, PoolSpec, PoolStatus, Refill, RefillWindow, UpdateKind, UpdateStrategy};
pub use rare::{Nothing, Rare};
pub use subnet::{ParseSubnetError, Subnet};
pub use template::{
    DiskFormat, DomainType, Egress, Image, Lifetime, Memory, Network, NetworkSpec, ParseMemoryError, ReadinessProbe,
    Template,
};
pub use trace::{Listing, Trace, TraceKind, Whose};

/// Whether a counter need not be written.
fn is_zero(n: &u32) -> bool {
    *n == 0
}
