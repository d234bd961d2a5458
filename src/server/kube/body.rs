//! Bodies of requests: never longer than they may be, never waited for without end, never nested without end.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::negotiate::{self, Media};
use super::proto;
use super::status::Status;
use crate::manifest;

/// The longest body.
const LONGEST: usize = manifest::MAX_SIZE;
/// The longest that is YAML and no JSON: a megabyte of opening brackets costs its parser seconds, and JSON's none.
const LONGEST_YAML: usize = 128 << 10;
/// How long a body may take.
const TIME: Duration = Duration::from_secs(10);

/// All of a body.
pub(super) async fn whole(body: Body) -> Result<Bytes, Status> {
    match tokio::time::timeout(TIME, axum::body::to_bytes(body, LONGEST)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Status::too_large(format!("the body broke off, or is longer than {LONGEST} bytes"))),
        Err(_) => {
            let message = format!("the body took longer than {} s", TIME.as_secs());
            Err(Status::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message))
        }
    }
}

/// A body that is an object: JSON, YAML or protobuf.
pub(super) async fn object(headers: &HeaderMap, body: Body) -> Result<Value, Status> {
    let media = negotiate::media(headers)?;
    let value = parsed(media, &whole(body).await?)?;
    if value.is_object() { Ok(value) } else { Err(Status::bad_request("the body is no object: write a map")) }
}

/// The same, where there may be none.
pub(super) async fn options(headers: &HeaderMap, body: Body) -> Result<Value, Status> {
    let bytes = whole(body).await?;
    if bytes.is_empty() { Ok(Value::Null) } else { parsed(negotiate::media(headers)?, &bytes) }
}

fn parsed(media: Media, bytes: &[u8]) -> Result<Value, Status> {
    match media {
        Media::Json => json(bytes),
        Media::Yaml => yaml(bytes),
        Media::Protobuf => proto::read(bytes).map_err(|error| match error {
            proto::ProtoError::Kind { .. } => Status::media_type(error.to_string()),
            proto::ProtoError::Envelope | proto::ProtoError::Broken { .. } => Status::bad_request(error.to_string()),
        }),
        Media::MergePatch | Media::JsonPatch | Media::Apply | Media::Manifest => {
            Err(negotiate::unknown("a patch", &["application/json", "application/yaml"]))
        }
    }
}

/// JSON: `serde_json` ends at a depth of 128.
pub(super) fn json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| Status::bad_request(format!("the body is no JSON: {error}")))
}

/// YAML, or the JSON that is a part of it.
pub(super) fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    if bytes.trim_ascii_start().starts_with(b"{") {
        return json(bytes);
    }
    if bytes.len() > LONGEST_YAML {
        let message = format!("a body in YAML has at most {LONGEST_YAML} bytes: write it in JSON, which has {LONGEST}");
        return Err(Status::too_large(message));
    }
    manifest::value(bytes).map_err(|error| Status::bad_request(format!("the body is no YAML: {error}")))
}
