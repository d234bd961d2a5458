use serde::{Deserialize, Serialize};

use super::{
    ClaimPhase, ClaimStatus, Common, Container, ContainerClaim, ContainerStatus, Credentials, Mark, ObjectMeta, Phase,
};

/// The longest keepsake that is read back. Three records of the store's largest size fit, whatever is in them.
pub const MAX_KEEPSAKE: usize = 2 * 1024 * 1024;

/// Conditions of a container that say what was done to it. The others are reckoned anew.
const LASTING: [&str; 5] = ["Started", "Personalised", "Published", "Authorized", "Ready"];

/// What the domain of a machine in use bears of its records, beside its [`Mark`]: enough to write them anew when the
/// store is lost. What changes by itself, or follows from the rest, is not in it, so that it changes only when somebody
/// changes something.
///
/// It holds no secret that the store does not hold in the same form (the password is sealed, of the client's token there
/// is only the SHA-256), but whoever may read domains of this host's libvirt can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keepsake {
    /// The machine.
    pub container: Container,
    /// Whose it is; absent for one without pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ContainerClaim>,
    /// Its login, the password sealed.
    pub credentials: Credentials,
}

/// Why a keepsake is none of this machine.
#[derive(Debug, thiserror::Error)]
pub enum KeepsakeError {
    /// It is not what this program writes.
    #[error("what its domain bears of its records cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// It tells of another machine.
    #[error("what its domain bears is of container {namespace}/{name} ({uid}), and not of the one that its mark names")]
    Another {
        /// Of the container in it.
        namespace: String,
        /// Of the container in it.
        name: String,
        /// Of the container in it.
        uid: uuid::Uuid,
    },
    /// Its records do not belong together.
    #[error("container and claim in what its domain bears do not belong together")]
    Torn,
    /// Nobody uses the machine.
    #[error("what its domain bears says that it is {0:?}, and in nobody's use")]
    Unused(Phase),
}

impl Keepsake {
    /// What is to be kept of these records.
    pub fn of(c: &Container, claim: Option<&ContainerClaim>, credentials: Credentials) -> Keepsake {
        Keepsake { container: container(c), claim: claim.map(lasting_claim), credentials }
    }

    /// Names the state of the records that a keepsake is of, so that one that is behind is known by its name alone.
    /// Credentials never change, and are not part of it. No proof of anything.
    pub fn digest(c: &Container, claim: Option<&ContainerClaim>) -> String {
        let json = serde_json::json!({ "container": container(c), "claim": claim.map(lasting_claim) });
        crate::sha256(json.to_string())[..16].into()
    }

    /// As one JSON text of ASCII letters: it goes through XML as it is.
    pub fn text(&self) -> String {
        // Structs, strings and numbers: nothing in it can fail to serialise.
        ascii(&serde_json::to_string(self).expect("records serialise"))
    }

    /// Reads what the domain with this mark bears.
    pub fn read(text: &str, mark: &Mark) -> Result<Keepsake, KeepsakeError> {
        let keepsake: Keepsake = serde_json::from_str(text).map_err(KeepsakeError::Unreadable)?;
        let (c, meta) = (&keepsake.container, &keepsake.container.metadata);
        if (&*meta.namespace, &meta.name, meta.uid) != (&mark.namespace, &mark.name, mark.uid) {
            let (namespace, name) = (meta.namespace.to_string(), meta.name.clone());
            return Err(KeepsakeError::Another { namespace, name, uid: meta.uid });
        }
        match (&keepsake.claim, &*c.spec.claim, c.status.phase) {
            (None, None, Phase::Ready) if c.spec.pool.is_none() => Ok(keepsake),
            (Some(claim), Some(named), Phase::Bound)
                if claim.metadata.name == *named
                    && claim.metadata.namespace == meta.namespace
                    && claim.status.phase == ClaimPhase::Bound
                    && claim.status.container.as_ref() == Some(&meta.name) =>
            {
                Ok(keepsake)
            }
            (_, _, Phase::Bound) | (Some(_), _, Phase::Ready) | (_, Some(_), Phase::Ready) => Err(KeepsakeError::Torn),
            (_, _, phase) => Err(KeepsakeError::Unused(phase)),
        }
    }
}

fn container(c: &Container) -> Container {
    let status = &c.status;
    let conditions = status.conditions.iter().filter(|condition| LASTING.contains(&condition.kind.as_str()));
    let kept = ContainerStatus {
        phase: status.phase,
        address: status.address,
        started_at: status.started_at,
        ready_at: status.ready_at,
        bound_at: status.bound_at.clone(),
        login_read_at: status.login_read_at.clone(),
        conditions: conditions.cloned().collect(),
        ..ContainerStatus::default()
    };
    Container { metadata: lasting_meta(&c.metadata), spec: c.spec.clone(), status: kept }
}

fn lasting_claim(claim: &ContainerClaim) -> ContainerClaim {
    let status = ClaimStatus { message: String::new(), expires_at: None, ..claim.status.clone() };
    ContainerClaim { metadata: lasting_meta(&claim.metadata), spec: claim.spec.clone(), status }
}

/// Without owners: where a store was lost nobody can tell whether an owner was there, and what is in use is not to end for
/// one that did not come back.
fn lasting_meta(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { owner_references: Common::default(), ..meta.clone() }
}

/// JSON says any character of a string in ASCII too; outside of strings it has no others.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            text.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
