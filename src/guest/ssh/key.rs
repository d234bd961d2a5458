//! The command that lets a public key log in.

use russh::keys::ssh_key::PublicKey;

/// The longest text that is read: RSA of 16384 bits, and a long comment.
const LONGEST: usize = 4096;

/// What installs a key for whoever runs it. Run again, it changes nothing.
///
/// The key's text goes no further than its parser: what stands in the command is written anew from what was read,
/// without the comment, and is of letters that mean nothing to a shell between quotes.
pub(super) fn installation(text: &str) -> Result<String, &'static str> {
    let line = line(text)?;
    let file = "\"$HOME/.ssh/authorized_keys\"";
    Ok(format!(
        "umask 077; mkdir -p \"$HOME/.ssh\" && chmod 700 \"$HOME/.ssh\" && touch {file} && chmod 600 {file} && \
         {{ grep -qxF '{line}' {file} || printf '%s\\n' '{line}' >> {file}; }}"
    ))
}

/// The key's line in `authorized_keys`.
fn line(text: &str) -> Result<String, &'static str> {
    const NONE: &str = "it is no public key in OpenSSH's one-line form: KIND BASE64 [COMMENT]";
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(NONE);
    }
    let mut key = PublicKey::from_openssh(text).map_err(|_| NONE)?;
    key.set_comment("");
    let line = key.to_openssh().map_err(|_| NONE)?;
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b" +/=@.-".contains(&byte);
    if line.bytes().all(harmless) { Ok(line) } else { Err(NONE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn the_line_is_the_key_without_its_comment() {
        assert_eq!(line(KEY).as_deref(), Ok(KEY));
        assert_eq!(line(&format!("{KEY} '; reboot #")).as_deref(), Ok(KEY));
    }

    #[test]
    fn what_is_no_key_never_reaches_a_guest() {
        for bad in [
            "",
            "ssh-ed25519",
            &KEY[..60],
            &KEY.replace("ssh-ed25519", "ssh-rsa"),
            &format!("command=\"x\" {KEY}"),
            &format!("{KEY}\n{KEY}"),
            &format!("{KEY}\n"),
            &format!("{KEY}'"),
            &format!("{KEY} {}", "x".repeat(LONGEST)),
            "'; reboot; '",
        ] {
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
