//! The command that lets a public key log in.

use crate::plan::public_key::{self, PublicKeyError};

/// What installs a key for whoever runs it. Run again, it changes nothing.
///
/// A key is checked before its claim is served; here it is once more, because it becomes part of a command. What
/// [`public_key::read`] gives back is made of letters that mean nothing to a shell between quotes:
/// `a_shell_installs_a_key_as_it_is_and_does_nothing_else_or_is_not_asked`.
pub(super) fn installation(text: &str) -> Result<String, PublicKeyError> {
    let line = public_key::read(text)?;
    let file = "\"$HOME/.ssh/authorized_keys\"";
    Ok(format!(
        "umask 077; mkdir -p \"$HOME/.ssh\" && chmod 700 \"$HOME/.ssh\" && touch {file} && chmod 600 {file} && \
         {{ grep -qxF '{line}' {file} || printf '%s\\n' '{line}' >> {file}; }}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn nothing_but_the_key_itself_becomes_part_of_the_command() {
        for comment in ["me@host", "'; reboot #", "$(reboot)"] {
            assert_eq!(installation(&format!("{KEY} {comment}")), installation(KEY));
        }
        for bad in [&format!("{KEY}'"), &format!("{KEY}\n"), "'; reboot; '"] {
            assert!(installation(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_command_installs_a_key_once_with_its_modes() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let command = installation(KEY).unwrap();
        for _ in 0..2 {
            let mut sh = std::process::Command::new("sh");
            assert!(sh.args(["-c", &command]).env("HOME", home.path()).status().unwrap().success());
        }
        let (dir, file) = (home.path().join(".ssh"), home.path().join(".ssh/authorized_keys"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{KEY}\n"));
        for (path, mode) in [(&dir, 0o700), (&file, 0o600)] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}
