//! Which template, and which image, a machine is made from: ten hex digits.

use crate::model::{Container, TEMPLATE_HASH, Template};
use crate::sha256;

/// Names a template with its image: the first ten hex digits of the SHA-256 over all of it. Keys are sorted, so that
/// it does not change because a field is declared at another place.
pub fn template_hash(template: &Template, image_sha256: &str) -> String {
    let mut json = serde_json::json!({ "template": template, "imageSha256": image_sha256 });
    json.sort_all_objects();
    sha256(json.to_string())[..10].into()
}

/// Whether a container was made from what this hash names.
pub(super) fn bears(c: &Container, hash: &str) -> bool {
    c.metadata.labels.get(TEMPLATE_HASH).is_some_and(|label| label == hash)
}
