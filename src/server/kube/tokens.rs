//! Tokens, for admins: made, listed, deleted.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::status::Status;
use super::{Answer, Kube, told};
use crate::api::access::{Grant, Token};
use crate::api::objects::Listed;
use crate::model::API_VERSION;

/// A token as it is asked for.
#[derive(Deserialize)]
struct Form {
    metadata: Named,
    spec: Spec,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    role: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    ttl_seconds: Option<u32>,
}

impl Kube {
    pub(super) fn tokens(&self) -> Result<Listed, Status> {
        Ok(Listed::of(self.access.list()?.iter().map(shown).collect(), 0))
    }

    /// Makes one. Its text is told here, and nowhere else.
    pub(super) async fn add_token(&self, body: Value) -> Answer {
        let right = "write {\"metadata\": {\"name\": …}, \"spec\": {\"role\": …, \"namespace\": …, \"ttlSeconds\": …}}";
        let form: Form =
            serde_json::from_value(body).map_err(|error| Status::bad_request(format!("{right}: {error}")))?;
        let grant = Grant { role: form.spec.role.parse()?, namespace: form.spec.namespace };
        let (token, text) = self.access.add(&form.metadata.name, grant, form.spec.ttl_seconds).await?;
        let mut made = shown(&token);
        made["status"]["token"] = text.expose_secret().into();
        if let Some(contact) = &self.contact {
            made["status"]["server"] = contact.server.clone().into();
            made["status"]["certificateAuthorityData"] = STANDARD.encode(&contact.authority).into();
        }
        Ok(told(StatusCode::CREATED, made))
    }

    pub(super) async fn delete_token(&self, name: &str) -> Answer {
        self.access.delete(name).await?;
        let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "details": { "name": name, "kind": "tokens" } });
        Ok(told(StatusCode::OK, body))
    }
}

fn shown(token: &Token) -> Value {
    json!({
        "kind": "Token",
        "apiVersion": API_VERSION,
        "metadata": { "name": token.name, "creationTimestamp": token.created_at },
        "spec": { "role": token.grant.role, "namespace": token.grant.namespace },
        "status": { "expiresAt": token.expires_at },
    })
}
