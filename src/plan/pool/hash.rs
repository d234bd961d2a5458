//! Which template, and which image, a machine is made from: ten hex digits.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};

use crate::model::{Container, TEMPLATE_HASH, Template};

/// Names a template with its image: the first ten hex digits of the SHA-256 over all of it. Keys are sorted, so that
/// it does not change because a field is declared at another place.
pub fn template_hash(template: &Template, image_sha256: &str) -> String {
    let mut json = serde_json::json!({ "template": template, "imageSha256": image_sha256 });
    json.sort_all_objects();
    let digest = digest(&SHA256, json.to_string().as_bytes());
    digest.as_ref()[..5].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a container was made from what this hash names.
pub(super) fn bears(c: &Container, hash: &str) -> bool {
    c.metadata.labels.get(TEMPLATE_HASH).is_some_and(|label| label == hash)
}
