//! What becomes of words on their way through a shell: a real one, which says how it read them.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::super::*;

/// Runs a command as the guest would, with a `sudo` that says what it was given: what was printed.
fn shell(home: &Path, command: &str) -> String {
    let script = format!("sudo() {{ printf '<%s>' \"$@\"; }}\n{command}");
    let output = Command::new("sh").args(["-c", &script]).env("HOME", home).current_dir(home).output().unwrap();
    assert!(output.stderr.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A right text; one with a piece of it replaced by what a shell could take for something; and anything.
fn near(right: &'static str) -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just("'; touch x; '".to_owned()),
        Just("$(touch x)".to_owned()),
        "\\PC",
        any::<char>().prop_map(String::from)
    ];
    let altered = (right, any::<prop::sample::Index>(), odd, any::<bool>()).prop_map(|(text, at, odd, longer)| {
        let at = at.index(text.len() + 1);
        let rest = if longer { at } else { (at + odd.chars().count()).min(text.len()) };
        format!("{}{odd}{}", &text[..at], &text[rest..])
    });
    prop_oneof![2 => right, 5 => altered, 1 => ".{0,200}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_shell_reads_the_words_of_the_set_up_as_they_are_or_is_not_asked(
        username in near("user_[0-9]{5}"), password in near("[A-Za-z0-9]{120}"),
    ) {
        let home = tempfile::tempdir().unwrap();
        if let Ok(command) = setup_command(&username, &password.clone().into()) {
            let read = shell(home.path(), command.expose_secret());
            prop_assert_eq!(read, format!("<{SETUP_SCRIPT}><{username}><{password}><22>"));
            prop_assert_eq!(home.path().read_dir().unwrap().count(), 0);
        }
    }

    #[test]
    fn a_shell_installs_a_key_as_it_is_and_does_nothing_else_or_is_not_asked(
        text in near("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}( [a-z ]{1,9})?"),
    ) {
        let home = tempfile::tempdir().unwrap();
        if let Ok(command) = key::installation(&text) {
            prop_assert_eq!(shell(home.path(), &command), "");
            let all = |path: &Path| path.read_dir().unwrap().map(|it| it.unwrap().file_name()).collect::<Vec<_>>();
            prop_assert_eq!(all(home.path()), [".ssh"]);
            prop_assert_eq!(all(&home.path().join(".ssh")), ["authorized_keys"]);
            let words: Vec<&str> = text.split(' ').take(2).collect();
            let installed = std::fs::read_to_string(home.path().join(".ssh/authorized_keys")).unwrap();
            prop_assert_eq!(installed, format!("{}\n", words.join(" ")));
        }
    }
}
