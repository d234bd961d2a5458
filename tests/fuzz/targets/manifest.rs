//! Manifests, as they stand in files, and the value that a body in YAML is.

use anweddol::manifest::{self, MAX_DOCUMENTS, Manifest, Read};
use serde_json::Value;

use super::lines;

pub(super) fn run(input: &[u8]) {
    let lines = lines(input);
    let Read { manifests, problems } = manifest::read("file.yaml", input);
    assert!(manifests.len() <= MAX_DOCUMENTS);
    // The same object twice is one more problem for each of them.
    assert!(problems.len() <= MAX_DOCUMENTS + 51, "{} problems", problems.len());
    for problem in &problems {
        assert!(problem.place.line <= lines, "line {} of {lines}: {problem}", problem.place.line);
        assert!(!problem.message.is_empty());
    }
    for located in &manifests {
        assert!((1..=lines).contains(&located.place.line), "it begins on line {} of {lines}", located.place.line);
        again(&located.manifest);
    }
    if let Ok(value) = manifest::value(input) {
        // Aliases make no more of a text than there is room for.
        let (count, depth) = size(&value);
        assert!(count <= 2 * input.len() + (64 << 10), "{count} values of {} bytes", input.len());
        assert!(depth <= 128, "{depth} deep");
    }
}

/// What was accepted is accepted again in each of its forms, as the same.
fn again(manifest: &Manifest) {
    let json = manifest.to_json();
    let kind = manifest.kind();
    assert_eq!(manifest::of_value(kind, &json).as_ref(), Ok(manifest), "{json}");
    let yaml = serde_yaml::to_string(&json).expect("YAML");
    let read = manifest::read("again.yaml", yaml.as_bytes());
    let [found] = &read.manifests[..] else { panic!("{yaml}: {:?}", read.problems) };
    assert_eq!(&found.manifest, manifest, "{yaml}");
    // It has no field that its kind does not have.
    let mut pruned = json.clone();
    assert_eq!(manifest::prune(kind, &mut pruned), [], "{json}");
}

/// How many values are in one, and how deep it is.
pub(super) fn size(value: &Value) -> (usize, usize) {
    let inside: Vec<(usize, usize)> = match value {
        Value::Array(items) => items.iter().map(size).collect(),
        Value::Object(map) => map.values().map(size).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    let count: usize = inside.iter().map(|(count, _)| count).sum();
    (1 + count, 1 + inside.iter().map(|(_, depth)| *depth).max().unwrap_or(0))
}
