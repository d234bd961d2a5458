//! The configuration file of the Python server.

use anweddol::config::Config;
use anweddol::config::import::{Import, Outcome, import};
use anweddol::config::keys::KEYS;
use serde_json::Value;

use super::lines;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match import(None, text) {
        Ok(made) => imported(&made, lines(input)),
        Err(error) => {
            for problem in error.problems() {
                assert!(problem.line <= lines(input), "line {} of {}", problem.line, lines(input));
                let told = problem.to_string();
                assert!(!told.chars().any(char::is_control), "{told:?}");
            }
        }
    }
}

/// The file says what was taken over, and nothing else: no old value becomes a line of its own.
fn imported(made: &Import, lines: usize) {
    let config = Config::parse(&made.config).unwrap_or_else(|error| panic!("{}: {error}", made.config));
    let as_json = |config: &Config| serde_json::to_value(config).expect("JSON");
    let (config, defaults) = (as_json(&config), as_json(&Config::default()));
    let taken: Vec<&str> =
        made.keys.iter().filter(|note| note.outcome == Outcome::Taken).filter_map(|n| n.new).collect();
    for key in KEYS {
        let pointer = format!("/{}", key.name.replace('.', "/"));
        let at = |of: &Value| of.pointer(&pointer).cloned();
        assert_eq!(at(&config) != at(&defaults), taken.contains(&key.name), "{}: {}", key.name, made.config);
    }
    for note in &made.keys {
        assert!(note.line <= lines, "{note:?}");
        assert!(!note.text().chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{note:?}");
    }
}
