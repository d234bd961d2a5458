//! What a request's parameters say. Only those that a verb knows are looked at: a client may send others.
//!
//! | verb | parameter | what |
//! | --- | --- | --- |
//! | any | `access_token` | what lets it in, where it has to be let in ([`super::access`]) |
//! | CREATE | `pool` | the pool to take a machine from; optional |
//! | CREATE | `ttl` | whole seconds that it may live; optional |
//! | CREATE | `ssh_public_key` | one line in OpenSSH's form, which may log in besides the password; optional |
//! | DESTROY, EXTEND | `container_uuid`, `client_token` | as CREATE told them |
//! | EXTEND | `ttl` | whole seconds from now that the machine is to live on |

use serde_json::Value;
use uuid::Uuid;

use super::Parameters;
use crate::api::Wishes;

/// What is wrong with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParameterError {
    /// Not a text.
    #[error("{name}: write a text")]
    Text {
        /// Which.
        name: &'static str,
    },
    /// Not a number of seconds.
    #[error("{name}: write whole seconds, 1 to 4294967295")]
    Seconds {
        /// Which.
        name: &'static str,
    },
    /// Without it nothing is known.
    #[error("EXTEND needs container_uuid, client_token and ttl")]
    Extension,
}

/// What CREATE asks for.
pub(super) fn wishes(parameters: &Parameters) -> Result<Wishes, ParameterError> {
    Ok(Wishes {
        pool: text(parameters, "pool")?,
        ttl: seconds(parameters, "ttl")?,
        ssh_public_key: text(parameters, "ssh_public_key")?,
    })
}

/// What EXTEND asks for.
pub(super) fn extension(parameters: &Parameters) -> Result<(Uuid, &str, u32), ParameterError> {
    let (uuid, token) = pair(parameters).ok_or(ParameterError::Extension)?;
    Ok((uuid, token, seconds(parameters, "ttl")?.ok_or(ParameterError::Extension)?))
}

/// The pair that names a container and proves the right to it.
pub(super) fn pair(parameters: &Parameters) -> Option<(Uuid, &str)> {
    let text = |name| parameters.get(name).and_then(Value::as_str);
    Some((text("container_uuid")?.parse().ok()?, text("client_token")?))
}

fn text(parameters: &Parameters, name: &'static str) -> Result<Option<String>, ParameterError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or(ParameterError::Text { name })
}

fn seconds(parameters: &Parameters, name: &'static str) -> Result<Option<u32>, ParameterError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map(Some).ok_or(ParameterError::Seconds { name })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(value: Value) -> Parameters {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_create_asks_for_what_it_names_and_other_parameters_are_nobodys() {
        assert_eq!(wishes(&parameters(json!({"colour": "blue", "access_token": null}))), Ok(Wishes::default()));
        let all = wishes(&parameters(json!({"pool": "big", "ttl": 60, "ssh_public_key": "key"})));
        let wanted = Wishes { pool: Some("big".into()), ttl: Some(60), ssh_public_key: Some("key".into()) };
        assert_eq!(all, Ok(wanted));
    }

    #[test]
    fn what_is_no_text_or_no_time_is_named() {
        for (given, name) in [
            (json!({"pool": 1}), "pool"),
            (json!({"pool": null}), "pool"),
            (json!({"ssh_public_key": ["a"]}), "ssh_public_key"),
            (json!({"ttl": "60"}), "ttl"),
            (json!({"ttl": 0}), "ttl"),
            (json!({"ttl": -1}), "ttl"),
            (json!({"ttl": 1.5}), "ttl"),
            (json!({"ttl": 4_294_967_296_u64}), "ttl"),
        ] {
            let said = wishes(&parameters(given)).unwrap_err().to_string();
            assert!(said.starts_with(name), "{said}");
        }
        let uuid = Uuid::nil().to_string();
        for lacks in [json!({}), json!({"container_uuid": uuid, "client_token": "t"}), json!({"ttl": 5})] {
            assert_eq!(extension(&parameters(lacks)), Err(ParameterError::Extension));
        }
        let whole = parameters(json!({"container_uuid": uuid, "client_token": "t", "ttl": 5}));
        assert_eq!(extension(&whole), Ok((Uuid::nil(), "t", 5)));
    }
}
