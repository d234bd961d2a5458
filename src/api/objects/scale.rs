//! A pool's number of replicas by itself, as `autoscaling/v1` has it.

use serde_json::{Value, json};

use super::draft::bad;
use super::{ObjectError, Objects, Request, Subresource, Terms, Verb, Written};
use crate::manifest::{Fault, FaultKind, patch};
use crate::model::{API_VERSION, Kind, ObjectRef};

impl Objects {
    /// The scale of a pool.
    pub fn scale(&self, object: &ObjectRef) -> Result<Value, ObjectError> {
        scalable(object)?;
        Ok(scale_of(&self.get(object)?))
    }

    /// Writes a scale: a write of the pool that is about nothing else.
    pub(super) async fn write_scale(&self, request: &Request) -> Result<Written, ObjectError> {
        let object = &request.object;
        scalable(object)?;
        loop {
            let pool = self.get(object)?;
            let rev = pool["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            let wished = wished(request, &scale_of(&pool))?;
            let replicas = replicas(object, &wished)?;
            let mut metadata = json!({});
            for name in ["name", "namespace", "uid", "resourceVersion"] {
                if !wished["metadata"][name].is_null() {
                    metadata[name] = wished["metadata"][name].clone();
                }
            }
            let verb = match request.verb {
                Verb::Apply { force } => Verb::Apply { force },
                Verb::Replace | Verb::MergePatch | Verb::JsonPatch | Verb::Create | Verb::Describe => Verb::MergePatch,
            };
            let terms = Terms { revision: request.terms.revision.or(rev), ..request.terms.clone() };
            let body = json!({
                "apiVersion": API_VERSION, "kind": object.kind.to_string(),
                "metadata": metadata, "spec": { "replicas": replicas },
            });
            let whole = Request { verb, body, terms, ..request.clone() };
            match self.write_named(&whole).await {
                // Nobody asked for that condition: the operator was faster with its counters.
                Err(ObjectError::Conflict { .. }) if free(request, &wished, &pool) => {}
                answer => return answer.map(|done| Written { object: scale_of(&done.object), ..done }),
            }
        }
    }
}

/// Whether the request itself sets no condition on the revision.
fn free(request: &Request, wished: &Value, pool: &Value) -> bool {
    let (said, read) = (&wished["metadata"]["resourceVersion"], &pool["metadata"]["resourceVersion"]);
    request.terms.revision.is_none() && (said.is_null() || (said == read && request.verb != Verb::Replace))
}

fn scalable(object: &ObjectRef) -> Result<(), ObjectError> {
    match object.kind {
        Kind::ContainerPool => Ok(()),
        Kind::Container | Kind::ContainerClaim => {
            let subresource = Subresource::Scale.name();
            Err(ObjectError::NoSubresource { object: object.clone(), subresource })
        }
    }
}

fn wished(request: &Request, scale: &Value) -> Result<Value, ObjectError> {
    let patched = |result: Result<Value, patch::PatchError>| {
        result.map_err(|source| ObjectError::Patch { object: request.object.clone(), source })
    };
    match request.verb {
        Verb::Replace | Verb::Apply { .. } => Ok(request.body.clone()),
        Verb::MergePatch => patched(patch::merge(scale, &request.body)),
        Verb::JsonPatch => patched(patch::json(scale, &request.body)),
        Verb::Create | Verb::Describe => {
            Err(bad(request, "a scale is replaced, patched or applied, with its pool there"))
        }
    }
}

fn replicas(object: &ObjectRef, scale: &Value) -> Result<u32, ObjectError> {
    let invalid = |message: String, kind| {
        let faults = vec![Fault::new("spec.replicas", message).of(kind)];
        ObjectError::Invalid { object: object.clone(), faults }
    };
    match &scale["spec"]["replicas"] {
        // Clients in Go leave a zero out.
        Value::Null if scale["spec"].is_object() => Ok(0),
        Value::Null => Err(invalid("it is missing: write a number of replicas".into(), FaultKind::Required)),
        found => match found.as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(replicas) => Ok(replicas),
            None => Err(invalid(format!("{found} is no number of replicas: write 0 or more"), FaultKind::Invalid)),
        },
    }
}

fn scale_of(pool: &Value) -> Value {
    let meta = &pool["metadata"];
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .into_iter()
        .map(|name| (name.to_owned(), meta[name].clone()))
        .collect();
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": { "replicas": pool["spec"]["replicas"] },
        "status": { "replicas": pool["status"]["replicas"] },
    })
}
