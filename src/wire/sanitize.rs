//! What a request must look like, and the documented error dictionary when it does not.
//!
//! The dictionary is that of the Cerberus library, whose rules these are: a field's name leads to a list of messages
//! in the order of the rules' names (dependencies, nullable, regex, type); a nested object is one dictionary in
//! that list. A value of the wrong type has no other fault.

use serde_json::{Map, Value};

use super::{Malformed, Request};

/// What a field's text must match. The pattern is only for telling; `matches` decides.
struct Rule {
    pattern: &'static str,
    matches: fn(&str) -> bool,
}

const VERB: Rule = Rule {
    pattern: "^[A-Z]{1,}$",
    matches: |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()),
};

const CONTAINER_UUID: Rule = Rule {
    pattern: "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    matches: |text| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            })
    },
};

const CLIENT_TOKEN: Rule =
    Rule { pattern: "^[0-9a-zA-Z-_]{255}$", matches: |text| text.len() == 255 && url_safe(text) };

const ACCESS_TOKEN: Rule =
    Rule { pattern: "^[0-9a-zA-Z-_]{124}$", matches: |text| text.len() == 124 && url_safe(text) };

fn url_safe(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether the server knows access tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTokens {
    /// It does not: `access_token` is a parameter like any other.
    #[default]
    Unknown,
    /// It does: where there is one, it must look like one.
    Enabled,
}

/// Checks an object that should be a request.
pub fn request(mut object: Map<String, Value>, access: AccessTokens) -> Result<Request, Malformed> {
    let mut errors = Map::new();
    let parameters = match object.remove("parameters") {
        Some(Value::Object(parameters)) => {
            let nested = parameter_errors(&parameters, access);
            if !nested.is_empty() {
                errors.insert("parameters".into(), vec![Value::Object(nested)].into());
            }
            parameters
        }
        other => {
            let message = match other {
                None => "required field",
                Some(Value::Null) => "null value not allowed",
                Some(_) => "must be of dict type",
            };
            errors.insert("parameters".into(), vec![message].into());
            Map::new()
        }
    };
    let verb = match object.remove("verb") {
        Some(Value::String(verb)) if (VERB.matches)(&verb) => verb,
        Some(other) => {
            errors.insert("verb".into(), text_errors(&other, &VERB).into());
            String::new()
        }
        None => {
            errors.insert("verb".into(), vec!["required field"].into());
            String::new()
        }
    };
    if errors.is_empty() { Ok(Request { verb, parameters, extra: object }) } else { Err(Malformed::Fields(errors)) }
}

fn parameter_errors(parameters: &Map<String, Value>, access: AccessTokens) -> Map<String, Value> {
    let mut errors = Map::new();
    let mut check = |name: &str, rule: &Rule, needs: Option<&str>| {
        let Some(value) = parameters.get(name) else { return };
        let mut messages = text_errors(value, rule);
        // A value of another type is past asking what else it needs; null is not.
        let typed = value.is_string() || value.is_null();
        if let Some(other) = needs.filter(|other| typed && !parameters.contains_key(*other)) {
            messages.insert(0, format!("field '{other}' is required"));
        }
        if !messages.is_empty() {
            errors.insert(name.into(), messages.into());
        }
    };
    if access == AccessTokens::Enabled {
        check("access_token", &ACCESS_TOKEN, None);
    }
    check("client_token", &CLIENT_TOKEN, Some("container_uuid"));
    check("container_uuid", &CONTAINER_UUID, Some("client_token"));
    errors
}

fn text_errors(value: &Value, rule: &Rule) -> Vec<String> {
    match value {
        Value::String(text) if (rule.matches)(text) => Vec::new(),
        Value::String(_) => vec![format!("value does not match regex '{}'", rule.pattern)],
        Value::Null => vec!["null value not allowed".into()],
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            vec!["must be of string type".into()]
        }
    }
}
