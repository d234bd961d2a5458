//! Access tokens of the wire protocol, for admins: made, listed, enabled, disabled, deleted.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::StatusCode;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::negotiate::{self, Media};
use super::status::Status;
use super::{Answer, Call, Kube, body, told};
use crate::api::access::Verb;
use crate::api::access_tokens::{Listed, Order};
use crate::api::objects::Listed as Objects;
use crate::model::{API_VERSION, AccessToken, Quotas};

/// A token as it is asked for.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default)]
    enabled: Option<bool>,
    /// Of a token that somebody has already.
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    ttl_seconds: Option<u32>,
    #[serde(default)]
    max_containers: Option<u32>,
    #[serde(default)]
    requests_per_minute: Option<NonZeroU32>,
}

/// The one change that there is: another text or other quotas are another token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    spec: Switch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    enabled: bool,
}

impl Kube {
    pub(super) fn access_tokens(&self) -> Result<Objects, Status> {
        let shown = |listed: &Listed| {
            let mut value = shown(&listed.token);
            value["status"]["containers"] = listed.containers.into();
            value
        };
        Ok(Objects::of(self.access_tokens.list()?.iter().map(shown).collect(), 0))
    }

    pub(super) async fn write_access_token(&self, call: &Call, body: Body) -> Answer {
        match call.verb {
            Verb::Create => self.add_access_token(body::object(&call.headers, body).await?).await,
            Verb::Patch => {
                let (Media::MergePatch | Media::Manifest) = negotiate::patch(&call.headers)? else {
                    return Err(negotiate::no_patch(&call.headers));
                };
                let change = body::json(&body::whole(body).await?)?;
                let right = "write {\"spec\": {\"enabled\": true}}, or false: nothing else of an access token changes";
                let change: Change = form(change, right)?;
                Ok(told(
                    StatusCode::OK,
                    shown(&self.access_tokens.set_enabled(call.name(), change.spec.enabled).await?),
                ))
            }
            _ => {
                self.access_tokens.delete(call.name()).await?;
                let details = json!({ "name": call.name(), "kind": "accesstokens" });
                let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "details": details });
                Ok(told(StatusCode::OK, body))
            }
        }
    }

    /// Makes one. Its text is told here, and nowhere else.
    async fn add_access_token(&self, body: Value) -> Answer {
        let right = "write {\"metadata\": {\"name\": …}, \"spec\": {\"enabled\": …, \"sha256\": …, \"ttlSeconds\": …, \"maxContainers\": \
                     …, \"requestsPerMinute\": …}}, whatever of it is wanted";
        let Form { metadata, spec } = form(body, right)?;
        let quotas = Quotas { max_containers: spec.max_containers, requests_per_minute: spec.requests_per_minute };
        let disabled = spec.enabled == Some(false);
        let order = Order { name: metadata.name, ttl: spec.ttl_seconds, disabled, quotas };
        let made = match spec.sha256 {
            Some(sha256) => shown(&self.access_tokens.take_over(order, &sha256).await?),
            None => {
                let (token, text) = self.access_tokens.add(order).await?;
                let mut made = shown(&token);
                made["status"]["token"] = text.expose_secret().into();
                made
            }
        };
        Ok(told(StatusCode::CREATED, made))
    }
}

fn form<T: serde::de::DeserializeOwned>(body: Value, right: &str) -> Result<T, Status> {
    serde_json::from_value(body).map_err(|error| Status::bad_request(format!("{right}: {error}")))
}

/// Without its SHA-256: who lists tokens has no use for it.
fn shown(token: &AccessToken) -> Value {
    json!({
        "kind": "AccessToken",
        "apiVersion": API_VERSION,
        "metadata": { "name": token.name, "creationTimestamp": token.created_at },
        "spec": {
            "enabled": token.enabled,
            "maxContainers": token.quotas.max_containers,
            "requestsPerMinute": token.quotas.requests_per_minute,
        },
        "status": { "expiresAt": token.expires_at },
    })
}
