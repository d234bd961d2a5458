//! How objects are shown: as Kubernetes shows them, with what people write in `spec` and everything else in `status`,
//! so that what is shown can be applied again. Secrets are in no view: a container's login has its own record, and of
//! a token not even the digest is told.

use serde_json::{Map, Value, json};

use crate::manifest::{ClaimReport, ContainerReport, json};
use crate::model::{API_VERSION, ClaimSpec, Container, ContainerClaim, ContainerPool, Event, Object, Origin};
use crate::store::Kv;
use crate::store::records::{self, RecordError, Versioned};

/// A kind that people can see and write.
pub(super) trait Shown: Object {
    /// Its `spec` as people write it.
    fn spec_shown(&self) -> Value;
    /// Everything else.
    fn status_shown(&self) -> Value;
}

impl Shown for ContainerPool {
    fn spec_shown(&self) -> Value {
        json(&self.spec)
    }

    fn status_shown(&self) -> Value {
        json(&self.status)
    }
}

impl Shown for Container {
    fn spec_shown(&self) -> Value {
        fields([("template", json(&self.spec.template))])
    }

    fn status_shown(&self) -> Value {
        let machine = &self.spec.machine;
        json(&ContainerReport {
            status: self.status.clone(),
            pool: self.spec.pool.as_ref().map(ToString::to_string),
            claim: (*self.spec.claim).clone(),
            port: machine.port,
            mac: machine.mac.to_string(),
            image_sha256: machine.image_sha256.to_string(),
        })
    }
}

impl Shown for ContainerClaim {
    fn spec_shown(&self) -> Value {
        json(&written(&self.spec))
    }

    fn status_shown(&self) -> Value {
        let shown = self.spec.access_token.as_ref().map_or(String::new(), |name| format!(", access token '{name}'"));
        let requested_by = match &self.spec.origin {
            Origin::Wire { client, .. } => format!("client {} ({}){shown}", client.id, client.ip),
            Origin::Embedder => "the program around the server".into(),
            Origin::Object => "whoever wrote this object".into(),
        };
        json(&ClaimReport { status: self.status.clone(), requested_by })
    }
}

/// What of a claim's spec people write.
fn written(spec: &ClaimSpec) -> ClaimSpec {
    ClaimSpec { token_sha256: None, access_token: None, origin: Origin::Object, ..spec.clone() }
}

/// An object as it is shown.
pub(super) fn view<T: Shown>(read: &Versioned<T>) -> Value {
    let object = &read.object;
    let mut metadata = match json(object.meta()) {
        Value::Object(metadata) => metadata,
        _ => Map::new(),
    };
    metadata.insert("resourceVersion".into(), read.rev.to_string().into());
    fields([
        ("apiVersion", API_VERSION.into()),
        ("kind", T::KIND.to_string().into()),
        ("metadata", metadata.into()),
        ("spec", object.spec_shown()),
        ("status", object.status_shown()),
    ])
}

/// What `json!` would make of them, which copies every value that it is given.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A record as it is shown.
pub(super) fn view_kv<T: Shown>(kv: &Kv) -> Result<Value, RecordError> {
    Ok(view(&records::decode::<T>(kv)?))
}

/// An event as it is shown, with its number in the log.
pub(super) fn view_event(kv: &Kv) -> Result<Value, RecordError> {
    let event = records::decode::<Event>(kv)?.object;
    let number = event_number(&kv.key);
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": "Event",
        "number": number,
        "type": event.kind.name(),
        "at": event.at,
        "regarding": event.regarding,
        "client": event.client,
        "message": event.message,
        "details": event.details,
    }))
}

/// The number in the key of an event.
pub(super) fn event_number(key: &str) -> u64 {
    key.strip_prefix(records::EVENTS).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
