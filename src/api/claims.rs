//! Claims as they lie in the store: made with a token, known again by it, bound, and ended. Nothing here waits, and
//! nothing knows of a pool's limits: that is [`Api`](super::Api)'s.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::random_text;
use crate::model::{Container, ContainerClaim, EventKind, Phase};
use crate::plan::container::about;
use crate::plan::{claim as plan, lifetime};
use crate::sha256;
use crate::store::records::{self, RecordError, Versioned};
use crate::store::{Store, Txn, TxnResult};

/// Characters of a client token, as the protocol documents them.
pub(super) const TOKEN_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Length of a client token.
const TOKEN_LENGTH: usize = 255;

/// A fresh client token.
pub(crate) fn token() -> SecretString {
    SecretString::from(random_text(TOKEN_ALPHABET, TOKEN_LENGTH))
}

/// What is kept of a token.
pub(crate) fn token_sha256(token: &SecretString) -> String {
    sha256(token.expose_secret())
}

/// Binding: claim and container, with the events, or nothing. The container as it is then.
pub(crate) fn bind(mut claim: ContainerClaim, member: &Versioned<Container>, now: Timestamp) -> (Arc<Container>, Txn) {
    let mut c = member.object.clone();
    c.spec.claim = Some(claim.metadata.name.clone()).into();
    c.status.phase = Phase::Bound;
    c.status.bound_at = Some(now).into();
    let expires_at = lifetime::deadline(&c.spec.template.lifetime, claim.spec.ttl_seconds, now);
    c.status.expires_at = expires_at.into();
    claim.status = plan::bound(&claim.status, &c.metadata.name, expires_at, now);
    let events = [
        about(&c, Some(&claim), EventKind::CreatedContainer, now),
        about(&c, Some(&claim), EventKind::BoundClaim, now).detail("claim", claim.metadata.name.clone()),
    ];
    let (c, claim) = (Arc::new(c), Arc::new(claim));
    let txn = Txn::default().unchanged(member).write_shared(Arc::clone(&c)).write_shared(claim).tell(&events);
    (c, txn)
}

/// A member for a claim that is not its own yet: it still boots, or a key has to be installed. From here on it is made
/// for that claim, and its own passes bind it.
pub(crate) fn promise(mut claim: ContainerClaim, member: &Versioned<Container>, now: Timestamp) -> Txn {
    let mut c = member.object.clone();
    c.spec.claim = Some(claim.metadata.name.clone()).into();
    claim.status = plan::promised(&claim.status, &c.metadata.name, now);
    let created = about(&c, Some(&claim), EventKind::CreatedContainer, now);
    Txn::default().unchanged(member).write_shared(Arc::new(c)).write_shared(Arc::new(claim)).tell(&[created])
}

/// The claim that a container is for.
pub(crate) fn of_container(
    store: &dyn Store,
    namespace: &str,
    container: &str,
) -> Result<Option<ContainerClaim>, RecordError> {
    let container = records::get::<Container>(store, namespace, container)?;
    let claim = container.as_ref().and_then(|container| container.object.spec.claim.as_deref());
    let Some(claim) = claim else { return Ok(None) };
    Ok(records::get::<ContainerClaim>(store, namespace, claim)?.map(|claim| claim.object))
}

/// Wishes for the end of a claim and of its machine.
pub(crate) async fn withdraw(
    store: &dyn Store,
    namespace: &str,
    claim: &str,
    now: Timestamp,
) -> Result<(), RecordError> {
    loop {
        let Some(read) = records::get::<ContainerClaim>(store, namespace, claim)? else { return Ok(()) };
        if let TxnResult::Committed(_) = store.txn(withdrawal(store, &read, now)?).await? {
            return Ok(());
        }
    }
}

/// What wishes for a claim's end: its machine goes, and the claim's record with it; without a machine there is nothing
/// to wait for but its finalizers.
pub(crate) fn withdrawal(
    store: &dyn Store,
    read: &Versioned<ContainerClaim>,
    now: Timestamp,
) -> Result<Txn, RecordError> {
    let mut gone = read.object.clone();
    gone.metadata.end(now);
    let txn = Txn::default().unchanged(read);
    Ok(match machine(store, &read.object)? {
        Some(container) => end(txn.write(&gone), &container, now),
        None if !gone.metadata.finalizers.is_empty() => txn.write(&gone),
        None => txn.remove(&read.object),
    })
}

/// A claim's machine, as long as there is a record of it.
pub(crate) fn machine(store: &dyn Store, claim: &ContainerClaim) -> Result<Option<Versioned<Container>>, RecordError> {
    let Some(name) = &claim.status.container else { return Ok(None) };
    let container = records::get::<Container>(store, &claim.metadata.namespace, name)?;
    Ok(container.filter(|read| read.object.spec.claim.as_ref() == Some(&claim.metadata.name)))
}

/// Adds the wish for a container's end.
pub(crate) fn end(txn: Txn, container: &Versioned<Container>, now: Timestamp) -> Txn {
    let mut ended = container.object.clone();
    ended.metadata.end(now);
    txn.unchanged(container).write(&ended)
}
