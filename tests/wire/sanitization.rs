//! Every case of `sanitization.json`: whether it is valid, and its error dictionary.

use anweddol::wire::{AccessTokens, Request};
use serde_json::Value;

#[test]
fn every_documented_case_is_judged_as_documented() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("sanitization.json")).unwrap();
    assert_eq!(cases.len(), 75);
    for case in cases {
        let text = case["request"].to_string();
        for access in [AccessTokens::Unknown, AccessTokens::Enabled] {
            let judged = Request::from_text(text.as_bytes(), access);
            assert_eq!(judged.is_ok(), case["valid"].as_bool().unwrap(), "{text}");
            let errors = judged.as_ref().err().map(|malformed| malformed.dictionary()).unwrap_or_default();
            assert_eq!(Value::Object(errors), case["errors"], "{text}");
            if let Ok(request) = judged {
                assert_eq!(Value::from(request.verb), case["request"]["verb"]);
                assert_eq!(Value::Object(request.parameters), case["request"]["parameters"]);
            }
        }
    }
}
