//! Objects as rows of a table.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Table, Width};
use jiff::Timestamp;
use serde_json::Value;

use super::time::{age, ahead};
use crate::model::Kind;

/// A table that grows: rows that come later stand below those before.
#[derive(Default)]
pub(super) struct Rows {
    widths: Vec<u16>,
}

impl Rows {
    /// The lines of these rows.
    pub(super) fn lines(&mut self, rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                if self.widths.len() == index {
                    self.widths.push(0);
                }
                let width = u16::try_from(cell.chars().count()).unwrap_or(u16::MAX).saturating_add(3);
                self.widths[index] = self.widths[index].max(width);
            }
            table.add_row(row);
        }
        for (column, width) in table.column_iter_mut().zip(&self.widths) {
            column.set_padding((0, 3));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
        }
        table.lines().fold(String::new(), |mut text, line| {
            text.push_str(line.trim_end());
            text.push('\n');
            text
        })
    }
}

/// The names of a kind's columns.
pub(super) fn head(kind: Kind, wide: bool, namespaced: bool) -> Vec<String> {
    let (narrow, more): (&[&str], &[&str]) = match kind {
        Kind::ContainerPool => (
            &["NAME", "READY", "UPDATED", "BOUND", "CONTAINERS", "AGE"],
            &["MEMORY", "VCPUS", "IMAGE", "MANAGED BY", "MESSAGE"],
        ),
        Kind::Container => (
            &["NAME", "PHASE", "POOL", "CLAIM", "PORT", "EXPIRES", "AGE"],
            &["ADDRESS", "MEMORY", "VCPUS", "IMAGE", "MESSAGE"],
        ),
        Kind::ContainerClaim => {
            (&["NAME", "PHASE", "POOL", "CONTAINER", "EXPIRES", "AGE"], &["REQUESTED BY", "MESSAGE"])
        }
    };
    let namespace = namespaced.then_some(&"NAMESPACE").into_iter();
    namespace.chain(narrow).chain(if wide { more } else { &[] }).map(|name| (*name).to_owned()).collect()
}

/// An object's row.
pub(super) fn row(kind: Kind, object: &Value, wide: bool, namespaced: bool, now: Timestamp) -> Vec<String> {
    let (meta, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let template = &spec["template"];
    let born = age(&meta["creationTimestamp"], now);
    let phase = if meta["deletionTimestamp"].is_null() { word(&status["phase"]) } else { "Terminating".into() };
    let (narrow, more) = match kind {
        Kind::ContainerPool => {
            let name = word(&meta["name"]);
            let mut ready = format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"]));
            if !meta["deletionTimestamp"].is_null() {
                ready.push_str(" (deleting)");
            } else if spec["paused"] == true {
                ready.push_str(" (paused)");
            }
            let all = format!("{}/{}", number(&status["containers"]), number(&spec["maxContainers"]));
            let (updated, bound) = (number(&status["updatedReplicas"]), number(&status["boundContainers"]));
            let keeper = word(&meta["annotations"][crate::model::MANAGED_BY]);
            (vec![name, ready, updated, bound, all, born], vec![keeper, word(&status["message"])])
        }
        Kind::Container => {
            let (pool, claim, port) = (word(&status["pool"]), word(&status["claim"]), number(&status["port"]));
            let expires = ahead(&status["expiresAt"], now);
            let narrow = vec![word(&meta["name"]), phase, pool, claim, port, expires, born];
            (narrow, vec![word(&status["message"])])
        }
        Kind::ContainerClaim => {
            let (pool, container) = (word(&spec["pool"]), word(&status["container"]));
            let narrow = vec![word(&meta["name"]), phase, pool, container, ahead(&status["expiresAt"], now), born];
            (narrow, vec![word(&status["requestedBy"]), word(&status["message"])])
        }
    };
    let machine = || vec![word(&template["memory"]), number(&template["vcpus"]), image(&template["image"])];
    let mut row = if namespaced { vec![word(&meta["namespace"])] } else { vec![] };
    row.extend(narrow);
    if wide {
        match kind {
            Kind::ContainerPool => row.extend(machine()),
            Kind::Container => {
                row.push(word(&status["address"]));
                row.extend(machine());
            }
            Kind::ContainerClaim => {}
        }
        row.extend(more);
    }
    row
}

fn word(value: &Value) -> String {
    match value.as_str() {
        None | Some("") => "<none>".into(),
        // A table has one line a row, whatever a message says.
        Some(text) => text.replace(char::is_control, " "),
    }
}

fn number(value: &Value) -> String {
    value.as_u64().unwrap_or(0).to_string()
}

fn image(image: &Value) -> String {
    let paths = [&image["iso"], &image["kernel"]["path"], &image["disk"]["path"]];
    paths.into_iter().find_map(Value::as_str).unwrap_or("<none>").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let now = Timestamp::from_second(100).unwrap();
        for kind in Kind::ALL {
            for (wide, namespaced) in [(false, false), (true, true)] {
                let row = row(kind, &json!({}), wide, namespaced, now);
                assert_eq!(row.len(), head(kind, wide, namespaced).len(), "{kind}");
            }
        }
    }

    #[test]
    fn later_rows_stand_below_earlier_ones() {
        let mut rows = Rows::default();
        let cells = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(rows.lines(vec![cells("NAME", "AGE"), cells("default", "1s")]), "NAME      AGE\ndefault   1s\n");
        assert_eq!(rows.lines(vec![cells("a", "2s")]), "a         2s\n");
    }
}
