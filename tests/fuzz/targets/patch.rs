//! Patches and what is applied: an object and a patch, both JSON.

use anweddol::manifest::fields::{self, Author, FieldSet, Part};
use anweddol::manifest::{MAX_SIZE, of_value, patch, prune};
use anweddol::model::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::manifest::size;
use super::parts;

pub(super) fn run(input: &[u8]) {
    let [document, change] = parts(input);
    let Ok(change) = serde_json::from_slice::<Value>(change) else { return };
    if let Ok(set) = FieldSet::from_value(&change) {
        assert_eq!(FieldSet::from_value(&set.to_value()).as_ref(), Ok(&set), "{change}");
    }
    let Ok(document) = serde_json::from_slice::<Value>(document) else { return };
    patched(&document, &change);
    for kind in Kind::ALL {
        apply(kind, &document, &change);
    }
}

fn patched(document: &Value, change: &Value) {
    let most = document.to_string().len() + change.to_string().len() + 3 * MAX_SIZE;
    let bounded = |result: &Value| {
        assert!(result.to_string().len() <= most, "{} bytes", result.to_string().len());
        let (_, depth) = size(result);
        assert!(depth <= 2 * 128, "{depth} deep");
    };
    if let Ok(merged) = patch::merge(document, change) {
        bounded(&merged);
        assert_eq!(patch::merge(&merged, change).expect("merged"), merged, "merged twice");
    }
    let operations = change.as_array().map_or(0, Vec::len);
    match patch::json(document, change) {
        Ok(patched) => bounded(&patched),
        Err(patch::PatchError::Failed { number, .. }) => assert!((1..=operations).contains(&number)),
        Err(patch::PatchError::Malformed { .. } | patch::PatchError::TooLarge) => {}
    }
}

/// Server-side apply: what is applied twice changes nothing, and whoever applied owns it.
fn apply(kind: Kind, document: &Value, config: &Value) {
    let Ok(live) = of_value(kind, document).map(|manifest| manifest.to_json()) else { return };
    let mut config = config.clone();
    if !config.is_object() {
        return;
    }
    prune(kind, &mut config);
    let by = |manager, second| Author {
        kind,
        part: Part::Wish,
        manager,
        subresource: None,
        now: Timestamp::from_second(second).expect("a time"),
    };
    let first = fields::before_first_apply(&by("", 1), &live);
    let me = by("me", 2);
    let merged = fields::merged(&me, &first, &live, &config);
    let Ok(after) = of_value(kind, &merged).map(|manifest| manifest.to_json()) else { return };
    let forced = fields::applied(&me, first.clone(), Some(&live), &after, &config, true).expect("forced");
    if let Ok(entries) = fields::applied(&me, first, Some(&live), &after, &config, false) {
        assert_eq!(entries, forced, "without a conflict, force is of no use");
    }
    for entry in &forced {
        let set = FieldSet::from_value(&entry.fields_v1).unwrap_or_else(|error| panic!("{}: {error}", entry.fields_v1));
        assert_eq!(set.to_value(), entry.fields_v1);
    }
    let later = by("me", 3);
    let again = fields::merged(&later, &forced, &after, &config);
    let again = of_value(kind, &again).unwrap_or_else(|faults| panic!("{again}: {faults:?}")).to_json();
    assert_eq!(again, after, "applied twice");
    let entries = fields::applied(&later, forced.clone(), Some(&after), &again, &config, false)
        .expect("no conflict with oneself");
    assert_eq!(json!(entries), json!(forced), "applied twice, times included");
}
