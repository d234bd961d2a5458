//! Objects as rows of a table.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Table, Width};
use jiff::Timestamp;
use serde_json::Value;

use crate::manifest::columns::{cells, columns, word};
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
    let shown = columns(kind).iter().filter(|column| wide || !column.wide);
    let namespace = namespaced.then(|| "NAMESPACE".to_owned());
    namespace.into_iter().chain(shown.map(|column| column.title.to_uppercase())).collect()
}

/// An object's row.
pub(super) fn row(kind: Kind, object: &Value, wide: bool, namespaced: bool, now: Timestamp) -> Vec<String> {
    let namespace = namespaced.then(|| text(word(&object["metadata"]["namespace"])));
    let cells = cells(kind, object, now).into_iter().zip(columns(kind));
    let shown = cells.filter(|(_, column)| wide || !column.wide).map(|(cell, _)| text(cell));
    namespace.into_iter().chain(shown).collect()
}

fn text(cell: Value) -> String {
    match cell {
        Value::String(text) => text,
        other => other.to_string(),
    }
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
