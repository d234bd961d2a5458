//! Objects as rows: which columns a kind has and what stands in them. The same for `anweddol get`, for the tables of
//! the API and for the printer columns of its CRDs.

use jiff::Timestamp;
use serde_json::Value;

use super::time::{age, ahead};
use crate::model::{Kind, MANAGED_BY};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// What stands in it, in OpenAPI's word: `string`, `integer` or `date`.
    pub kind: &'static str,
    /// Whether it is shown only to whoever asks for more.
    pub wide: bool,
    /// Where the most of what stands in it comes from: what a CRD has instead, whose cells cannot be reckoned.
    pub path: &'static str,
}

const fn column(title: &'static str, kind: &'static str, path: &'static str) -> Column {
    Column { title, kind, wide: false, path }
}

const fn wide(title: &'static str, kind: &'static str, path: &'static str) -> Column {
    Column { title, kind, wide: true, path }
}

const NAME: Column = column("Name", "string", ".metadata.name");
const AGE: Column = column("Age", "date", ".metadata.creationTimestamp");
const MEMORY: Column = wide("Memory", "string", ".spec.template.memory");
const VCPUS: Column = wide("vCPUs", "integer", ".spec.template.vcpus");
const IMAGE: Column = wide("Image", "string", ".spec.template.image.kernel.path");
const MESSAGE: Column = wide("Message", "string", ".status.message");

const POOL: &[Column] = &[
    NAME,
    column("Ready", "string", ".status.readyReplicas"),
    column("Updated", "integer", ".status.updatedReplicas"),
    column("Bound", "integer", ".status.boundContainers"),
    column("Containers", "string", ".status.containers"),
    AGE,
    MEMORY,
    VCPUS,
    IMAGE,
    wide("Managed By", "string", ".metadata.annotations.anweddol\\.io/managed-by"),
    MESSAGE,
];

const CONTAINER: &[Column] = &[
    NAME,
    column("Phase", "string", ".status.phase"),
    column("Pool", "string", ".status.pool"),
    column("Claim", "string", ".status.claim"),
    column("Port", "integer", ".status.port"),
    column("Expires", "string", ".status.expiresAt"),
    AGE,
    wide("Address", "string", ".status.address"),
    MEMORY,
    VCPUS,
    IMAGE,
    MESSAGE,
];

const CLAIM: &[Column] = &[
    NAME,
    column("Phase", "string", ".status.phase"),
    column("Pool", "string", ".spec.pool"),
    column("Container", "string", ".status.container"),
    column("Expires", "string", ".status.expiresAt"),
    AGE,
    wide("Requested By", "string", ".status.requestedBy"),
    MESSAGE,
];

/// The columns of a kind.
pub fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::ContainerPool => POOL,
        Kind::Container => CONTAINER,
        Kind::ContainerClaim => CLAIM,
    }
}

/// What stands in an object's row: a cell for each column, a text or a whole number.
pub fn cells(kind: Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let deleting = !meta["deletionTimestamp"].is_null();
    let born = || Value::from(age(&meta["creationTimestamp"], now));
    let ends = || Value::from(ahead(&status["expiresAt"], now));
    let phase = || if deleting { "Terminating".into() } else { word(&status["phase"]) };
    let template = &spec["template"];
    match kind {
        Kind::ContainerPool => {
            let mut ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            if deleting {
                ready.push_str(" (deleting)");
            } else if spec["paused"] == true {
                ready.push_str(" (paused)");
            }
            vec![
                word(&meta["name"]),
                ready.into(),
                number(&status["updatedReplicas"]).into(),
                number(&status["boundContainers"]).into(),
                format!("{}/{}", number(&status["containers"]), number(&spec["maxContainers"])).into(),
                born(),
                word(&template["memory"]),
                number(&template["vcpus"]).into(),
                image(&template["image"]),
                word(&meta["annotations"][MANAGED_BY]),
                word(&status["message"]),
            ]
        }
        Kind::Container => vec![
            word(&meta["name"]),
            phase(),
            word(&status["pool"]),
            word(&status["claim"]),
            number(&status["port"]).into(),
            ends(),
            born(),
            word(&status["address"]),
            word(&template["memory"]),
            number(&template["vcpus"]).into(),
            image(&template["image"]),
            word(&status["message"]),
        ],
        Kind::ContainerClaim => vec![
            word(&meta["name"]),
            phase(),
            word(&spec["pool"]),
            word(&status["container"]),
            ends(),
            born(),
            word(&status["requestedBy"]),
            word(&status["message"]),
        ],
    }
}

/// A text in a cell. A table has one line a row, whatever a message says.
pub(crate) fn word(value: &Value) -> Value {
    match value.as_str() {
        None | Some("") => "<none>".into(),
        Some(text) => text.replace(char::is_control, " ").into(),
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn image(image: &Value) -> Value {
    let paths = [&image["iso"], &image["kernel"]["path"], &image["disk"]["path"]];
    word(paths.into_iter().find(|path| path.is_string()).unwrap_or(&Value::Null))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_as_many_cells_as_its_kind_has_columns_and_the_types_they_say() {
        let now = Timestamp::from_second(100).unwrap();
        for kind in Kind::ALL {
            let cells = cells(kind, &json!({}), now);
            assert_eq!(cells.len(), columns(kind).len(), "{kind}");
            for (cell, column) in cells.iter().zip(columns(kind)) {
                assert_eq!(cell.is_u64(), column.kind == "integer", "{kind} {}", column.title);
            }
        }
    }

    #[test]
    fn a_row_tells_what_is_and_that_it_ends_in_one_line() {
        let now = Timestamp::from_second(100).unwrap();
        let pool = json!({
            "metadata": { "name": "a", "deletionTimestamp": "1970-01-01T00:01:00Z", "creationTimestamp": "1970-01-01T00:00:10Z" },
            "spec": { "replicas": 2, "maxContainers": 6 },
            "status": { "readyReplicas": 1, "message": "no\nroom" },
        });
        let cells = cells(Kind::ContainerPool, &pool, now);
        assert_eq!((&cells[1], &cells[5], &cells[10]), (&json!("1/2 (deleting)"), &json!("90s"), &json!("no room")));
    }
}
