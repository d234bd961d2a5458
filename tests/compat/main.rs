//! Whoever embedded the original server finds every documented name again: the document is read, name by name, and
//! held against the table in `anweddol::server` and against the constants themselves.

mod document;

use std::collections::BTreeSet;

use anweddol::model::EventKind;
use anweddol::server::constants::*;
use document::{compiled, documented, documented_values, mentioned, rows, words};

#[test]
fn every_documented_name_has_one_row_and_every_row_a_documented_name() {
    let documented = documented();
    let rows: Vec<&str> = rows().iter().map(|row| row.documented).collect();
    let known: BTreeSet<String> = rows.iter().map(|&row| row.to_owned()).collect();
    let missing: Vec<_> = documented.difference(&known).collect();
    assert!(missing.is_empty(), "without a row in src/server/api.md: {missing:?}");
    let invented: Vec<_> = known.difference(&documented).collect();
    assert!(invented.is_empty(), "rows of src/server/api.md that the document does not know: {invented:?}");
    assert_eq!(rows.len(), known.len(), "a name has two rows");
}

#[test]
fn the_document_is_read_to_its_end() {
    let names = documented();
    let count = |what: fn(&str) -> bool| names.iter().filter(|name| what(name)).count();
    assert_eq!(count(|name| name.starts_with("DEFAULT_")), 4);
    assert_eq!(count(|name| name.starts_with("REQUEST_VERB_")), 3);
    assert_eq!(count(|name| name.starts_with("RESPONSE_MSG_")), 6);
    assert_eq!(count(|name| name.starts_with("EVENT_")), 12);
    assert_eq!(count(|name| name.starts_with("ServerInterface(")), 7);
    assert_eq!(count(|name| name.ends_with("()")), 9, "methods");
    assert_eq!(count(|name| name.starts_with("getRuntimeStatistics().")), 4);
    assert_eq!(count(|name| name.starts_with("on_") && !name.contains('(')), 12);
    for name in ["on_runtime_error(client_instance)", "on_created_endpoint_shell(client_instance)", "RSAWrapper"] {
        assert!(names.contains(name), "{name}");
    }
}

#[test]
fn whatever_the_document_marks_as_a_name_is_in_a_row() {
    let known: BTreeSet<&str> = rows().iter().flat_map(|row| words(row.documented)).collect();
    let plain = ["True", "False", "None"];
    for name in mentioned().into_iter().filter(|name| !plain.contains(name)) {
        assert!(words(name).all(|word| known.contains(word)), "`{name}` is in no row of src/server/api.md");
    }
}

#[test]
fn every_row_names_something_that_a_documentation_test_compiles() {
    let compiled = compiled();
    for row in rows() {
        assert_eq!(row.cells, 3, "{}: a row has three columns", row.documented);
        let name = words(row.here).last().unwrap_or_else(|| panic!("{} has no name here", row.documented));
        assert!(compiled.contains(name), "{}: nothing compiles `{}`", row.documented, row.here);
    }
}

/// A constant, as the document writes its value.
fn value(name: &str) -> Option<String> {
    let text = |text: &str| Some(format!("\"{text}\""));
    let number = |number: u8| Some(number.to_string());
    match name {
        // The socket API of Python calls all addresses of the host "".
        "DEFAULT_SERVER_BIND_ADDRESS" if DEFAULT_SERVER_BIND_ADDRESS.is_unspecified() => text(""),
        "DEFAULT_SERVER_LISTEN_PORT" => Some(DEFAULT_SERVER_LISTEN_PORT.to_string()),
        "DEFAULT_CLIENT_TIMEOUT" => Some(DEFAULT_CLIENT_TIMEOUT.as_secs_f64().to_string()),
        "DEFAULT_ASYCHRONOUS" => Some(if DEFAULT_ASYCHRONOUS { "True" } else { "False" }.into()),
        "REQUEST_VERB_CREATE" => text(REQUEST_VERB_CREATE),
        "REQUEST_VERB_DESTROY" => text(REQUEST_VERB_DESTROY),
        "REQUEST_VERB_STAT" => text(REQUEST_VERB_STAT),
        "RESPONSE_MSG_OK" => text(RESPONSE_MSG_OK),
        "RESPONSE_MSG_BAD_AUTH" => text(RESPONSE_MSG_BAD_AUTH),
        "RESPONSE_MSG_BAD_REQ" => text(RESPONSE_MSG_BAD_REQ),
        "RESPONSE_MSG_REFUSED_REQ" => text(RESPONSE_MSG_REFUSED_REQ),
        "RESPONSE_MSG_UNAVAILABLE" => text(RESPONSE_MSG_UNAVAILABLE),
        "RESPONSE_MSG_INTERNAL_ERROR" => text(RESPONSE_MSG_INTERNAL_ERROR),
        "EVENT_CLIENT" => number(EVENT_CLIENT),
        "EVENT_CLIENT_CLOSED" => number(EVENT_CLIENT_CLOSED),
        "EVENT_CONNECTION" => number(EVENT_CONNECTION),
        "EVENT_CREATED_CONTAINER" => number(EVENT_CREATED_CONTAINER),
        "EVENT_CREATED_ENDPOINT_SHELL" => number(EVENT_CREATED_ENDPOINT_SHELL),
        "EVENT_DESTROYED_CONTAINER" => number(EVENT_DESTROYED_CONTAINER),
        "EVENT_MALFORMED_REQUEST" => number(EVENT_MALFORMED_REQUEST),
        "EVENT_REQUEST" => number(EVENT_REQUEST),
        "EVENT_RUNTIME_ERROR" => number(EVENT_RUNTIME_ERROR),
        "EVENT_STARTED" => number(EVENT_STARTED),
        "EVENT_STOPPED" => number(EVENT_STOPPED),
        "EVENT_UNKNOWN_VERB" => number(EVENT_UNKNOWN_VERB),
        _ => None,
    }
}

#[test]
fn every_constant_has_its_documented_value() {
    let documented = documented_values();
    assert_eq!(documented.len(), 25);
    for (name, documented) in documented {
        assert_eq!(value(name).as_deref(), Some(documented), "{name}");
    }
}

#[test]
fn an_events_constant_is_the_number_of_the_event_of_that_name() {
    assert_eq!(EventKind::CreatedContainer as u8, 4);
    for (name, number) in
        documented_values().into_iter().filter_map(|(name, n)| Some((name.strip_prefix("EVENT_")?, n)))
    {
        let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!((kind as u8).to_string(), number, "{name}");
    }
}
