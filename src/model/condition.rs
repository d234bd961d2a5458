use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Common;

/// One aspect of an object's state, as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is said of it; many objects have the same.
    pub said: Common<Said>,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// What a condition says, but for since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which aspect, in CamelCase.
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, one CamelCase word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// The generation it was found for, where whoever found it says so.
    pub observed_generation: Option<i64>,
}

impl Deref for Condition {
    type Target = Said;

    fn deref(&self) -> &Said {
        &self.said
    }
}

impl DerefMut for Condition {
    fn deref_mut(&mut self) -> &mut Said {
        &mut self.said
    }
}

/// How a condition is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Condition")]
struct Form<'a> {
    /// Which aspect, in CamelCase.
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    /// `True`, `False` or `Unknown`.
    status: Cow<'a, str>,
    /// Why, one CamelCase word.
    reason: Cow<'a, str>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    message: Cow<'a, str>,
    /// When `status` last changed.
    last_transition_time: Timestamp,
    /// The generation it was found for, where whoever found it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Said { kind, status, reason, message, observed_generation } = &**self;
        Form {
            kind: kind.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: self.last_transition_time,
            observed_generation: *observed_generation,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let said = Said {
            kind: form.kind.into(),
            status: form.status.into(),
            reason: form.reason.into(),
            message: form.message.into(),
            observed_generation: form.observed_generation,
        };
        Ok(Condition { said: said.into(), last_transition_time: form.last_transition_time })
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        Form::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Form::json_schema(generator)
    }
}

/// Sets a condition; its transition time moves only when its status does.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    put_condition(conditions, kind, if status { "True" } else { "False" }, reason, message, now);
}

/// Sets a condition to `Unknown`: neither can be said. The rest as [`set_condition`].
pub fn set_unknown(conditions: &mut Vec<Condition>, kind: &str, reason: &str, message: &str, now: Timestamp) {
    put_condition(conditions, kind, "Unknown", reason, message, now);
}

fn put_condition(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    match conditions.iter_mut().find(|c| c.kind == kind) {
        Some(found) => {
            if found.status != status {
                found.status = status.into();
                found.last_transition_time = now;
            }
            if found.reason != reason || found.message != message {
                found.reason = reason.into();
                found.message = message.into();
            }
        }
        None => {
            let said = Said {
                kind: kind.into(),
                status: status.into(),
                reason: reason.into(),
                message: message.into(),
                observed_generation: None,
            };
            conditions.push(Condition { said: said.into(), last_transition_time: now });
        }
    }
}

/// Whether a condition is there and `True`.
pub fn condition(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.kind == kind && c.status == "True")
}
