use clap::CommandFactory;

use super::*;
use crate::cli::Cli;

fn help_of(words: &[&str]) -> Result<String> {
    text(Cli::command(), &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

#[test]
fn help_knows_topics_and_commands_and_says_what_may_have_been_meant() {
    assert!(help_of(&["runbook"]).unwrap().starts_with("# When something is wrong"));
    assert!(help_of(&["store", "import"]).unwrap().contains("--replace"));
    let general = help_of(&[]).unwrap();
    for topic in TOPICS {
        assert!(general.contains(&format!("anweddol help {}", topic.name)), "{general}");
    }
    let error = help_of(&["runbok"]).unwrap_err().to_string();
    assert!(error.contains("'runbok' (did you mean 'runbook'?)"), "{error}");
    for (words, says) in [
        (["store", "runbook"], "'store' has no command 'runbook': see 'anweddol help store'"),
        (["get", "pools"], "'get' has no command 'pools': see 'anweddol help get'"),
        (["store", "exprot"], "'store' has no command 'exprot' (did you mean 'export'?): see"),
    ] {
        let error = help_of(&words).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// What follows `anweddol` in a text: the words up to the first that is no command.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let after = text.split("anweddol ").skip(1);
    let word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
    let words = after.map(|rest| {
        let line = rest.split(['\n', '\'', '`', ',', ';', '.']).next().unwrap_or_default();
        line.split(' ').take_while(word).collect::<Vec<_>>()
    });
    words.filter(|words| !words.is_empty()).collect()
}

#[test]
fn what_the_manual_names_exists() {
    let readme = include_str!("../../../README.md");
    let texts = TOPICS.iter().map(|topic| (topic.name, topic.text)).chain([("README.md", readme)]);
    let mut named = 0;
    for (name, text) in texts {
        let code = text.lines().filter(|line| line.contains("anweddol "));
        for words in code.flat_map(commands) {
            let program = Cli::command();
            let mut command = &program;
            if words[0] == "help" {
                assert!(help_of(&words[1..]).is_ok(), "{name}: anweddol {}", words.join(" "));
            }
            for (at, word) in words.iter().enumerate() {
                match command.find_subcommand(word) {
                    Some(sub) => command = sub,
                    // An argument, unless a command has to stand here.
                    None => {
                        assert!(at > 0 && !command.has_subcommands(), "{name}: anweddol {}", words.join(" "));
                        break;
                    }
                }
                named += 1;
            }
        }
    }
    assert!(named > 50, "{named}");
}
