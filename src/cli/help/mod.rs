//! `anweddol help`: the manual by topic, and what each command's `--help` says.
//!
//! The topics are the text files beside this one. Every command and every configuration key that they name exists
//! (`what_the_manual_names_exists`).

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command};

use super::Result;
use crate::manifest::hint;

#[derive(Args)]
pub(super) struct HelpArgs {
    /// A topic, or a command; without one, what there is
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
}

/// A chapter of the manual.
struct Topic {
    name: &'static str,
    about: &'static str,
    text: &'static str,
}

const TOPICS: &[Topic] = &[
    Topic {
        name: "administration",
        about: "install it, run it, watch it, save and upgrade it",
        text: include_str!("administration.md"),
    },
    Topic {
        name: "images",
        about: "what machines boot: the two that can be built, and your own",
        text: include_str!("images.md"),
    },
    Topic {
        name: "kubernetes",
        about: "kubectl, helm and controllers with the daemon",
        text: include_str!("kubernetes.md"),
    },
    Topic { name: "migration", about: "come here from the Python server", text: include_str!("migration.md") },
    Topic {
        name: "pools",
        about: "machines kept ready, from YAML; claims and lifetimes",
        text: include_str!("pools.md"),
    },
    Topic { name: "runbook", about: "something is wrong: by symptom", text: include_str!("runbook.md") },
    Topic { name: "security", about: "who can attack what, and what stops them", text: include_str!("security.md") },
];

/// What `--help` says at its end.
pub(super) fn topics() -> String {
    let rows = TOPICS.iter().map(|topic| format!("  anweddol help {:<17} {}", topic.name, topic.about));
    format!("The manual:\n{}", rows.collect::<Vec<_>>().join("\n"))
}

/// Prints a topic, or the help of a command.
pub(super) fn help(program: Command, args: &HelpArgs) -> Result<ExitCode> {
    let text = text(program, &args.words)?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text(mut program: Command, words: &[String]) -> Result<String> {
    if let [word] = words
        && let Some(topic) = TOPICS.iter().find(|topic| topic.name == word)
    {
        return Ok(topic.text.into());
    }
    program.build();
    let mut command = &mut program;
    for (at, word) in words.iter().enumerate() {
        let mut there: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        if at == 0 {
            there.extend(TOPICS.iter().map(|topic| topic.name.to_owned()));
        }
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            let meant = hint::nearest(word, there.iter().map(String::as_str));
            let meant = meant.map(|meant| format!(" (did you mean '{meant}'?)")).unwrap_or_default();
            match words[..at].join(" ") {
                first if first.is_empty() => {
                    format!("there is no topic and no command '{word}'{meant}: 'anweddol help' lists them")
                }
                before => format!("'{before}' has no command '{word}'{meant}: see 'anweddol help {before}'"),
            }
        })?;
    }
    Ok(command.render_long_help().to_string())
}

#[cfg(test)]
mod tests;
