//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::MAX_SIZE;

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration '{}' cannot be read ('anweddol config init FILE' writes one)", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a directory.
    #[error("configuration '{}' is a directory: name the file in it", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
    },
    /// It is too long to be one.
    #[error("configuration '{}' is longer than {MAX_SIZE} bytes: it is another file, or has to be shortened", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Nobody says where records, keys and images live.
    #[error(
        "there is no state directory: this user has no home directory. Name one with --state or 'state_dir', or set HOME"
    )]
    NoStateDir,
    /// It says what cannot be.
    #[error(transparent)]
    Wrong(Problems),
}

impl ConfigError {
    /// What is wrong within the file; nothing, if it could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ConfigError::Wrong(Problems(problems)) => problems,
            ConfigError::Unreadable { .. }
            | ConfigError::Directory { .. }
            | ConfigError::TooLong { .. }
            | ConfigError::NoStateDir => &[],
        }
    }
}

/// Everything that is wrong with a configuration; at least one thing.
#[derive(Debug, thiserror::Error)]
pub struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problems(problems) = self;
        if let [only] = problems.as_slice() {
            return write!(f, "configuration: {only}");
        }
        write!(f, "configuration: {} things are wrong", problems.len())?;
        problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// In which file; absent: it was said on the command line, or by a program.
    pub file: Option<PathBuf>,
    /// On which line, from 1 on; 0: on none.
    pub line: usize,
    /// In which column of it, from 1 on; 0: in none.
    pub column: usize,
    /// Which key, as `container.memory`; empty: the file as a whole.
    pub key: String,
    /// Its value, shortened; absent where there is none.
    pub value: Option<String>,
    /// Why it cannot be, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            match (self.line, self.column) {
                (0, _) => {}
                (line, 0) => write!(f, "{line}:")?,
                (line, column) => write!(f, "{line}:{column}:")?,
            }
            f.write_str(" ")?;
        }
        match (self.key.as_str(), &self.value) {
            ("", _) => {}
            (key, None) => write!(f, "{key}: ")?,
            (key, Some(value)) => write!(f, "{key} is {value}: ")?,
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// Of a file as a whole.
    pub(super) fn whole(file: Option<&Path>, message: impl Into<String>) -> Self {
        Problem {
            file: file.map(Into::into),
            line: 0,
            column: 0,
            key: String::new(),
            value: None,
            message: message.into(),
        }
    }
}

/// A value that cannot be, wherever it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: &'static str,
    /// The key that it does not go together with.
    pub(super) with: Option<&'static str>,
    /// What would be right; it follows "KEY is VALUE: ".
    pub(super) message: String,
}

/// Collects what sections find wrong with their values.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// A rule about one key.
    pub(super) fn unless(&mut self, good: bool, key: &'static str, message: impl Into<String>) {
        if !good {
            self.0.push(Fault { key, with: None, message: message.into() });
        }
    }

    /// A rule about two keys, of which the first would be changed.
    pub(super) fn unless_with(
        &mut self,
        good: bool,
        key: &'static str,
        with: &'static str,
        message: impl Into<String>,
    ) {
        if !good {
            self.0.push(Fault { key, with: Some(with), message: message.into() });
        }
    }

    /// A number within a range, with its unit.
    pub(super) fn range<N: PartialOrd + fmt::Display>(
        &mut self,
        range: RangeInclusive<N>,
        value: N,
        key: &'static str,
        unit: &str,
    ) {
        let message = format!("write {} to {}{unit}", range.start(), range.end());
        self.unless(range.contains(&value), key, message);
    }
}
