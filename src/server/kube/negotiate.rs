//! In which form an answer is wanted, and in which form a body comes. Pure.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};

use super::status::Status;
use axum::http::StatusCode;

/// The form of an answer. All of them are JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Objects as they are.
    Whole,
    /// Rows of a table, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// Their metadata alone.
    Metadata,
    /// Everything there is in one document, for discovery: in this version.
    Discovery(&'static str),
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// JSON, or nothing said.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes' own envelope around protocol buffers.
    Protobuf,
    /// RFC 7396.
    MergePatch,
    /// RFC 6902.
    JsonPatch,
    /// Server-side apply: YAML, of which JSON is a part.
    Apply,
    /// A manifest that describes its object wholly: what our own command line applies.
    Manifest,
}

/// How a patch of one of Kubernetes' own kinds is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlainPatch {
    /// RFC 7396.
    Merge,
    /// The same with directives, as a real server takes it for its own kinds alone.
    Strategic,
    /// RFC 6902.
    Json,
    /// Server-side apply.
    Apply,
}

const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The media type of a manifest that describes its object wholly: what is not in it has its default.
pub const MANIFEST: &str = "application/vnd.anweddol.manifest+json";

/// What an `Accept` header wants: the first of its entries that there is. Without one, JSON.
pub(super) fn form(headers: &HeaderMap) -> Result<Form, Status> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Form::Whole) };
    let accept = accept.to_str().map_err(|_| Status::bad_request("the header Accept is no text"))?;
    accept.split(',').find_map(entry).ok_or_else(|| {
        let message = "only the following media types are accepted: application/json, as it is or as Table, PartialObjectMetadata or APIGroupDiscoveryList";
        Status::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    })
}

fn entry(entry: &str) -> Option<Form> {
    let mut parts = entry.split(';').map(str::trim);
    let media = parts.next()?;
    if !matches!(media, "application/json" | "application/*" | "*/*" | "") {
        return None;
    }
    let (mut kind, mut group, mut version) = ("", "", "");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "as" => kind = value,
            "g" => group = value,
            "v" => version = value,
            // A preference among what comes first anyway.
            _ => {}
        }
    }
    match (kind, group, version) {
        ("", ..) => Some(Form::Whole),
        ("Table", "meta.k8s.io", "v1") => Some(Form::Table("meta.k8s.io/v1")),
        ("Table", "meta.k8s.io", "v1beta1") => Some(Form::Table("meta.k8s.io/v1beta1")),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => {
            Some(Form::Metadata)
        }
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(Form::Discovery("v2")),
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1") => Some(Form::Discovery("v2beta1")),
        _ => None,
    }
}

/// What a `Content-Type` says. Many clients say nothing, and mean JSON.
pub(super) fn media(headers: &HeaderMap) -> Result<Media, Status> {
    let Some(said) = said(headers) else { return Ok(Media::Json) };
    match said.as_str() {
        "application/json" | "text/json" => Ok(Media::Json),
        "application/yaml" | "text/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        "application/merge-patch+json" => Ok(Media::MergePatch),
        "application/json-patch+json" => Ok(Media::JsonPatch),
        "application/apply-patch+yaml" => Ok(Media::Apply),
        MANIFEST => Ok(Media::Manifest),
        other => Err(unknown(other, &["application/json", "application/yaml"])),
    }
}

fn said(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The form of a patch of one of Kubernetes' own kinds, which has to be said.
pub(super) fn plain_patch(headers: &HeaderMap) -> Result<PlainPatch, Status> {
    match media(headers) {
        Ok(Media::MergePatch) => Ok(PlainPatch::Merge),
        Ok(Media::JsonPatch) => Ok(PlainPatch::Json),
        Ok(Media::Apply) => Ok(PlainPatch::Apply),
        Err(_) if said(headers).as_deref() == Some(STRATEGIC) => Ok(PlainPatch::Strategic),
        Ok(Media::Json | Media::Yaml | Media::Protobuf | Media::Manifest) | Err(_) => Err(no_patch(headers)),
    }
}

/// The form of a patch, which has to be said.
pub(super) fn patch(headers: &HeaderMap) -> Result<Media, Status> {
    match media(headers) {
        Ok(media @ (Media::MergePatch | Media::JsonPatch | Media::Apply | Media::Manifest)) => Ok(media),
        Ok(Media::Json | Media::Yaml | Media::Protobuf) | Err(_) => Err(no_patch(headers)),
    }
}

/// A patch in a form that is not taken.
pub(super) fn no_patch(headers: &HeaderMap) -> Status {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    unknown(said, &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"])
}

/// A body that is in none of the forms that it could be in.
pub(super) fn unknown(said: &str, accepted: &[&str]) -> Status {
    let said: String = said.chars().filter(|c| !c.is_control()).take(100).collect();
    Status::media_type(format!(
        "the body of the request was in an unknown format ('{said}') - accepted media types include: {}",
        accepted.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(accept: &str) -> Option<Form> {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        form(&headers).ok()
    }

    #[test]
    fn the_first_form_that_there_is_is_taken() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        for (accept, expected) in [
            (table, Some(Form::Table("meta.k8s.io/v1"))),
            (discovery, Some(Form::Discovery("v2"))),
            ("application/json, */*", Some(Form::Whole)),
            ("*/*", Some(Form::Whole)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(Form::Whole)),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some(Form::Metadata)),
            ("application/json;as=Nonsense;g=meta.k8s.io;v=v1", None),
            ("application/json;q=0.9", Some(Form::Whole)),
            ("text/html", None),
        ] {
            assert_eq!(accepting(accept), expected, "{accept}");
        }
        assert_eq!(form(&HeaderMap::new()).unwrap(), Form::Whole);
    }

    #[test]
    fn a_body_without_a_type_is_json_and_strategic_patches_are_none() {
        let of = |said: &str| media(&HeaderMap::from_iter([(CONTENT_TYPE, said.parse().unwrap())]));
        assert_eq!(media(&HeaderMap::new()).unwrap(), Media::Json);
        assert_eq!(of("application/json; charset=utf-8").unwrap(), Media::Json);
        assert_eq!(of("application/apply-patch+yaml").unwrap(), Media::Apply);
        for bad in ["application/strategic-merge-patch+json", "text/plain", "application/apply-patch+cbor", ""] {
            assert_eq!(of(bad).unwrap_err().code(), 415, "{bad}");
        }
    }
}
