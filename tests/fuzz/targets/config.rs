//! The daemon's configuration.

use anweddol::config::{Config, reload};

use super::lines;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.check().is_ok());
            let written = serde_yaml::to_string(&config).expect("YAML");
            match Config::parse(&written) {
                Ok(again) => assert_eq!(again, config),
                Err(error) => panic!("{written}: {error}"),
            }
            if let Ok(changes) = reload::compare(&Config::default(), &config) {
                assert!(changes.config.check().is_ok());
                assert!(changes.waiting.is_empty() || changes.config != config);
            }
        }
        Err(error) => {
            let problems = error.problems();
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.line <= lines(input), "line {} of {}", problem.line, lines(input));
                let told = problem.to_string();
                assert!(!told.chars().any(char::is_control), "{told:?}");
            }
        }
    }
}
