//! The access token that a client shows: from a file or from the environment, never from the command line, where every
//! user of the host could read it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Result;
use crate::api::access_tokens::LENGTH;

/// Where it is, if no file is named.
const VARIABLE: &str = "ANWEDDOL_ACCESS_TOKEN";
/// The longest file that is read.
const LONGEST: u64 = 4 << 10;

/// The access token, where a server wants one.
#[derive(Args, Clone, Default)]
pub(super) struct AccessArgs {
    /// A file with the access token, where the server wants one; without it, ANWEDDOL_ACCESS_TOKEN is the token
    #[arg(long, value_name = "FILE")]
    pub(super) access_token: Option<PathBuf>,
}

/// Why there is no access token where one was named.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessTokenError {
    #[error("a token on the command line can be read by every user of this host: write it into a file and name that")]
    InClear,
    #[error("access token '{}' cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{what} holds no access token: that is {LENGTH} letters, digits, '-' and '_', as 'anweddol access-token add' prints them"
    )]
    NoToken { what: String },
}

impl AccessArgs {
    /// The file that is named, as it is known from everywhere.
    pub(super) fn file(&self) -> Result<Option<PathBuf>> {
        Ok(self.access_token.as_deref().map(std::path::absolute).transpose()?)
    }

    /// Adds the token to a request's parameters: that of the file that is named; else that of the environment; else that
    /// of the file which a machine was asked for with.
    pub(super) fn show(&self, parameters: &mut Map<String, Value>, saved: Option<&Path>) -> Result<()> {
        if let Some(token) = self.token(std::env::var_os(VARIABLE), saved)? {
            parameters.insert("access_token".into(), token.into());
        }
        Ok(())
    }

    fn token(
        &self,
        variable: Option<OsString>,
        saved: Option<&Path>,
    ) -> std::result::Result<Option<String>, AccessTokenError> {
        let variable = variable.filter(|text| !text.is_empty());
        match (&self.access_token, variable, saved) {
            (Some(path), _, _) => read(path).map(Some),
            (None, Some(text), _) => {
                let no_token = || AccessTokenError::NoToken { what: VARIABLE.into() };
                text.to_str().and_then(token).ok_or_else(no_token).map(Some)
            }
            (None, None, Some(path)) => read(path).map(Some),
            (None, None, None) => Ok(None),
        }
    }
}

fn read(path: &Path) -> std::result::Result<String, AccessTokenError> {
    if path.to_str().and_then(token).is_some() && !path.exists() {
        return Err(AccessTokenError::InClear);
    }
    let unreadable = |source| AccessTokenError::Unreadable { path: path.into(), source };
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
    File::open(path).map_err(unreadable)?.take(LONGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    let no_token = || AccessTokenError::NoToken { what: format!("'{}'", path.display()) };
    std::str::from_utf8(&bytes).ok().and_then(token).ok_or_else(no_token)
}

/// A text without the space around it, if it can be a token.
fn token(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
    (text.len() == LENGTH && plain).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_from_the_named_file_then_from_the_environment_then_from_where_it_came_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let of = |c: &str| c.repeat(LENGTH);
        let (named, saved) = (file("named", &format!(" {}\n", of("a"))), file("saved", &of("c")));
        let args = |path: Option<&Path>| AccessArgs { access_token: path.map(Path::to_owned) };
        let token = |path: Option<&Path>, variable: Option<String>, saved: Option<&Path>| {
            args(path).token(variable.map(OsString::from), saved).map_err(|error| error.to_string())
        };
        assert_eq!(token(Some(&named), Some(of("b")), Some(&saved)), Ok(Some(of("a"))));
        assert_eq!(token(None, Some(of("b")), Some(&saved)), Ok(Some(of("b"))));
        assert_eq!(token(None, Some(String::new()), Some(&saved)), Ok(Some(of("c"))));
        assert_eq!(token(None, None, None), Ok(None));

        let short = file("short", "abc");
        for (path, variable, says) in [
            (Some(dir.path().join("none")), None, "none' cannot be read"),
            (Some(short.clone()), None, "short' holds no access token"),
            (None, Some("abc".to_owned()), "ANWEDDOL_ACCESS_TOKEN holds no access token"),
            (None, Some(of("/")), "ANWEDDOL_ACCESS_TOKEN holds no access token"),
            (Some(of("a").into()), None, "into a file"),
        ] {
            let said = token(path.as_deref(), variable, None).unwrap_err();
            assert!(said.contains(says) && !said.contains(&of("a")), "{said}");
        }
    }
}
