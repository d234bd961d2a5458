//! What is fuzzed: from any bytes to a property that has to hold. Each target is one of these functions; whoever calls it, the
//! engine or a test, gets a panic where the property is broken, and nothing else.
//!
//! | target | input | property |
//! | --- | --- | --- |
//! | `wire` | a peer's stream | any segmentation is the same conversation; nothing is taken that was not asked for; a request is of the agreed form; its answer reaches the client that asked |
//! | `request` | JSON of a request or a response | what is accepted is of the agreed form and is sent as it was read |
//! | `manifest` | YAML | what is accepted is accepted again, and is the same; problems stand on lines that there are |
//! | `config` | YAML | the same of the daemon's configuration |
//! | `import` | YAML of the Python server's | what comes out is a configuration that says nothing but what was taken over |
//! | `patch` | an object and a patch | results have a bounded size and depth; applied twice is applied once; sets of fields are read as they were written |
//! | `http` | requests with a token for one namespace | nothing outside of it is changed or told; no answer is the daemon's fault; every record stays readable |
//! | `domain` | names, paths, a command line | the domain has the elements of a harmless one, and bears the mark that was given; any XML is read or not |
//! | `records` | keys and values of a store | every one is read or found; what is read is written as it was; nothing opens that was not sealed |
//! | `guest` | what a guest's SSH server sends | it is never taken for a login, and what is told of it is one short line |
//! | `forms` | small texts: selectors, sizes, networks, keys | what is read is written in a form that is read as the same |

mod config;
mod domain;
mod forms;
mod guest;
mod http;
mod import;
mod manifest;
mod patch;
mod records;
mod request;
mod wire;

/// What a target does with an input.
pub(crate) type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub(crate) const ALL: [(&str, Target); 11] = [
    ("wire", wire::run),
    ("request", request::run),
    ("manifest", manifest::run),
    ("config", config::run),
    ("import", import::run),
    ("patch", patch::run),
    ("http", http::run),
    ("domain", domain::run),
    ("records", records::run),
    ("guest", guest::run),
    ("forms", forms::run),
];

/// A target by its name.
pub(crate) fn find(name: &str) -> Target {
    let found = ALL.into_iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("there is no target '{name}'")).1
}

/// Parts of an input, each any bytes but the one that is in no UTF-8 text. Those that are not there are empty.
fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut parts = input.splitn(N, |byte| *byte == 0xff);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The lines that a text has for whoever counts them, and the one behind the last, on which the parser of YAML misses what is
/// not there any more. It ends a line with more than a line feed.
fn lines(text: &[u8]) -> usize {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|c| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')).count() + 2
}
