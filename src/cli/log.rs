//! Where the daemon's log goes, and in which form.

use std::io::{self, IsTerminal, stderr};

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use super::otlp;
use crate::config::Observe;

/// What is told where `RUST_LOG` says nothing. What russh tells is what guests sent it, as often and as long as they like;
/// what matters of it comes back as an error, bounded.
const FILTER: &str = "info,russh=off,sled=warn";

/// A form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
    /// The journal's own protocol, with its fields.
    Journald,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("ANWEDDOL_LOG is '{said}': write text, json or journald")]
    Form { said: String },
    #[error("ANWEDDOL_LOG=journald: the journal cannot be reached; write text or json where there is none")]
    Journal(#[source] io::Error),
    #[error("spans cannot be sent")]
    Otlp(#[from] otlp::OtlpError),
}

/// For people on a terminal; to the journal where systemd says that standard error is its; JSON elsewhere.
/// `ANWEDDOL_LOG=text|json|journald` says otherwise, `RUST_LOG` says what is told. What is given back sends the spans
/// that are left at the end.
pub(super) fn begin(observe: &Observe) -> Result<otlp::Guard, LogError> {
    let said = std::env::var("ANWEDDOL_LOG").ok();
    let terminal = stderr().is_terminal();
    let form = form(said.as_deref(), terminal, is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()))?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let lines = || fmt::layer().with_writer(stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match form {
        Form::Text => lines().with_ansi(terminal).boxed(),
        Form::Json => lines().json().boxed(),
        Form::Journald => match tracing_journald::layer() {
            Ok(journal) => journal.with_field_prefix(Some("ANWEDDOL".into())).boxed(),
            Err(error) if said.is_some() => return Err(LogError::Journal(error)),
            // It said that standard error is its: what is written there arrives.
            Err(_) => lines().json().boxed(),
        },
    };
    let (spans, guard) = otlp::layer(observe)?;
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(spans).init();
    Ok(guard)
}

fn form(said: Option<&str>, terminal: bool, journal: bool) -> Result<Form, LogError> {
    match said {
        Some("text") => Ok(Form::Text),
        Some("json") => Ok(Form::Json),
        Some("journald") => Ok(Form::Journald),
        Some(other) => Err(LogError::Form { said: other.into() }),
        None if terminal => Ok(Form::Text),
        None if journal => Ok(Form::Journald),
        None => Ok(Form::Json),
    }
}

/// Whether standard error is what systemd connected to the journal: a child may have another one, and the variable
/// still (systemd.exec(5)).
fn is_journal(stream: Option<&str>) -> bool {
    let Ok(stat) = rustix::fs::fstat(stderr()) else { return false };
    stream == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_text_the_journal_its_fields_and_programs_json_unless_somebody_says_otherwise() {
        let form = |said, terminal, journal| form(said, terminal, journal).unwrap();
        assert_eq!(form(None, true, true), Form::Text);
        assert_eq!(form(None, false, true), Form::Journald);
        assert_eq!(form(None, false, false), Form::Json);
        for (said, expected) in [("text", Form::Text), ("json", Form::Json), ("journald", Form::Journald)] {
            assert_eq!(form(Some(said), true, false), expected);
            assert_eq!(form(Some(said), false, true), expected);
        }
    }

    #[test]
    fn a_guest_has_no_line_written_by_whatever_it_sends() {
        let logged = |target: &str| {
            let registry = tracing_subscriber::registry().with(EnvFilter::new(FILTER));
            tracing::subscriber::with_default(registry, || match target {
                "russh" => tracing::enabled!(target: "russh::client::encrypted", tracing::Level::ERROR),
                _ => tracing::enabled!(target: "anweddol::guest", tracing::Level::INFO),
            })
        };
        assert!(!logged("russh") && logged("anweddol"));
    }

    #[test]
    fn a_form_that_is_none_is_refused_with_those_there_are() {
        let said = form(Some("yaml"), true, false).unwrap_err().to_string();
        assert_eq!(said, "ANWEDDOL_LOG is 'yaml': write text, json or journald");
    }

    #[test]
    fn only_the_stream_that_systemd_named_is_the_journal() {
        let stat = rustix::fs::fstat(stderr()).unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
        assert!(!is_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1))));
        assert!(!is_journal(None) && !is_journal(Some("")));
    }
}
