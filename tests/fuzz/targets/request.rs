//! A request's and a response's JSON.

use anweddol::wire::{AccessTokens, Malformed, Request, Response};
use serde_json::Value;

pub(super) fn run(input: &[u8]) {
    for access in [AccessTokens::Unknown, AccessTokens::Enabled] {
        match Request::from_text(input, access) {
            Ok(request) => {
                agreed(&request, access);
                let sent = request.to_text();
                assert!(sent.is_ascii() && !sent.contains('\n'));
                assert_eq!(Request::from_text(sent.as_bytes(), access), Ok(request));
            }
            Err(Malformed::Fields(errors)) => assert!(!errors.is_empty(), "refused for nothing"),
            Err(malformed) => assert!(malformed.dictionary().is_empty()),
        }
    }
    if let Ok(response) = Response::from_text(input) {
        let sent = response.to_text();
        assert!(sent.is_ascii());
        assert_eq!(Response::from_text(sent.as_bytes()), Ok(response));
    }
}

/// What handlers of requests rely on.
pub(super) fn agreed(request: &Request, access: AccessTokens) {
    assert!(!request.verb.is_empty() && request.verb.bytes().all(|c| c.is_ascii_uppercase()));
    assert!(!request.extra.contains_key("verb") && !request.extra.contains_key("parameters"));
    let text = |name: &str| request.parameters.get(name).map(|value| value.as_str().expect("a text"));
    let (uuid, token) = (text("container_uuid"), text("client_token"));
    assert_eq!(uuid.is_some(), token.is_some(), "one needs the other");
    let url_safe = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    assert!(
        uuid.is_none_or(|uuid| uuid.len() == 36 && uuid.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f' | b'-')))
    );
    assert!(token.is_none_or(|token| token.len() == 255 && url_safe(token)));
    if access == AccessTokens::Enabled {
        let token = request.parameters.get("access_token");
        assert!(token.and_then(Value::as_str).is_none_or(|token| token.len() == 124 && url_safe(token)));
        assert!(token.is_none_or(Value::is_string));
    }
}
