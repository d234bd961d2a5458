//! The rules between modules, kept by reading the source: which module may name what, and how long a file gets.
//!
//! They are worth a test because nothing else notices. A `use` line compiles wherever it stands, and a decision that
//! can no longer be tested without a machine is found much later than the line that made it so.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest product file. Its unit tests live beside it, in `tests.rs`, and do not count.
const MOST_LINES: usize = 450;

/// Files below one of `places` may not say one of `words`, except those below `except`.
struct Rule {
    places: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        places: &["model/", "plan/", "wire/", "manifest/"],
        except: &[],
        words: &[
            "tokio::",
            "sled::",
            "virt::",
            "virt_sys::",
            "russh::",
            "axum::",
            "std::fs",
            "std::process",
            "std::thread",
            "std::env",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "Timestamp::now",
            "Instant::now",
            "SystemTime",
            "Zoned::now",
            "crate::store",
            "crate::hypervisor",
            "crate::guest",
            "crate::host",
            "crate::operator",
            "crate::api",
            "crate::server",
            "crate::client",
            "crate::config",
            "crate::daemon",
            "crate::cli",
            "crate::keeper",
            "crate::link",
            "crate::private_file",
        ],
        why: "model, plan, wire and manifest are pure: what they decide depends on their arguments alone, so that a test needs \
              no machine, no clock and no luck. Hand in the time or the bytes, and act on the answer elsewhere.",
    },
    Rule {
        places: &["api/", "server/", "keeper/"],
        except: &[],
        words: &["hypervisor::", "guest::", "virt::", "virt_sys::"],
        why: "a client's request only ever writes desired state; machines are the operator's alone. A request that \
              touches one is not repeated after a crash.",
    },
    Rule {
        places: &["api/", "server/", "operator/", "keeper/", "facade/", "daemon.rs", "daemon/"],
        except: &[],
        words: &["Timestamp::now", "SystemTime", "Zoned::now"],
        why: "what is recorded and compared with a deadline is of the daemon's own time, which no jump of the wall clock \
              moves: ask the clock that was handed in (`plan::clock`).",
    },
    Rule {
        places: &["operator/"],
        except: &[],
        words: &["server::", "cli::", "daemon::", "config::", "client::", "wire::", "keeper::"],
        why: "the operator works without any client: it knows records and the world, not how wishes come in.",
    },
    Rule {
        places: &["store/", "hypervisor/", "guest/", "host/"],
        except: &[],
        words: &["crate::operator", "crate::api", "crate::server", "crate::cli", "crate::daemon", "crate::config"],
        why: "adapters are below: they serve the trait they implement and know nothing of who calls.",
    },
    Rule {
        places: &["metrics/"],
        except: &[],
        words: &["crate::operator", "crate::api", "crate::server", "crate::cli", "crate::daemon", "crate::config"],
        why: "everybody counts, and what is counted knows nobody who does.",
    },
    Rule {
        places: &[""],
        // An adapter may work with another one: forwards are made by a machine's QEMU.
        except: &["daemon.rs", "daemon/", "hypervisor/", "guest/", "store/"],
        words: &[
            "hypervisor::libvirt",
            "hypervisor::fake",
            "guest::forward",
            "guest::ssh",
            "guest::fake",
            "host::local",
            "store::open",
        ],
        why: "daemon.rs is the composition root: everybody else knows the trait, so that every part runs on fakes.",
    },
    Rule {
        places: &[""],
        except: &["daemon.rs", "guest/", "cli/image.rs"],
        words: &["guest::image"],
        why: "the image is built on the command line, and nothing that serves depends on how.",
    },
    Rule {
        places: &[""],
        except: &["cli/", "main.rs"],
        words: &["crate::cli", "clap::", "indicatif::", "println!", "eprintln!", "print!", "eprint!"],
        why: "only the command line talks to a terminal; everything else returns a value or writes to the log.",
    },
];

/// A product file: its path below `src/`, and its text without comments and without its tests.
struct Source {
    path: String,
    lines: usize,
    code: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let product = files.into_iter().filter(|file| {
        let test = |part: &std::ffi::OsStr| part == "tests" || part == "tests.rs";
        !file.strip_prefix(&root).unwrap().iter().any(test)
    });
    let sources: Vec<Source> = product
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            Source { path, lines: text.lines().count(), code: code(&text) }
        })
        .collect();
    assert!(sources.iter().any(|source| source.path == "plan/mod.rs"), "the source is not where it is looked for");
    sources
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Numbered lines, without comments and unit tests, and with `use` of several lines in one:
/// a nested import names the same thing as a plain one.
fn code(text: &str) -> Vec<(usize, String)> {
    let mut code: Vec<(usize, String)> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let next = lines.peek().map_or("", |(_, next)| next.trim_start());
        if line.starts_with("#[cfg(test)]") && next.starts_with("mod ") && next.ends_with('{') {
            // The bracket that closes it is the next one without indentation.
            lines.by_ref().find(|(_, line)| *line == "}");
            continue;
        }
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        match code.last_mut() {
            Some((_, open)) if is_import(open) && !open.ends_with(';') => open.push_str(line),
            _ => code.push((index + 1, line.to_owned())),
        }
    }
    for (_, line) in &mut code {
        if is_import(line) {
            *line = imports(line).join(" ");
        }
    }
    code
}

fn is_import(line: &str) -> bool {
    let begins = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
    // Prose in a text of several lines can begin with the same word.
    begins.iter().filter_map(|begin| line.strip_prefix(begin)).any(|path| path.contains("::"))
}

/// `use a::{b, c::{d, e}};` as `a::b`, `a::c::d`, `a::c::e`.
fn imports(line: &str) -> Vec<String> {
    let tree = line.split_once("use ").map_or(line, |(_, tree)| tree).trim_end_matches(';');
    let (mut paths, mut prefixes, mut word) = (Vec::new(), vec![String::new()], String::new());
    for c in tree.chars() {
        match c {
            '{' => {
                let prefix = format!("{}{}", prefixes.last().unwrap(), word.trim());
                prefixes.push(prefix);
                word.clear();
            }
            ',' | '}' => {
                if !word.trim().is_empty() {
                    paths.push(format!("{}{}", prefixes.last().unwrap(), word.trim()));
                }
                word.clear();
                if c == '}' {
                    prefixes.pop();
                }
            }
            c => word.push(c),
        }
    }
    if !word.trim().is_empty() {
        paths.push(format!("{}{}", prefixes.last().unwrap(), word.trim()));
    }
    paths
}

/// Whether a line says a word, not a longer one that ends in it, and not in a quoted text.
fn says(line: &str, word: &str) -> bool {
    let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let plain = |at: usize| line[..at].matches('"').count().is_multiple_of(2);
    line.match_indices(word).any(|(at, _)| begins(at) && plain(at))
}

fn below(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

#[test]
fn modules_name_only_what_they_may_know() {
    let sources = sources();
    let mut wrong = String::new();
    for rule in RULES {
        let mut seen = String::new();
        for source in sources.iter().filter(|s| below(&s.path, rule.places) && !below(&s.path, rule.except)) {
            for (number, line) in &source.code {
                for word in rule.words.iter().filter(|word| says(line, word)) {
                    writeln!(seen, "  src/{}:{number} says '{word}'", source.path).unwrap();
                }
            }
        }
        if !seen.is_empty() {
            writeln!(wrong, "{seen}  because {}\n", rule.why).unwrap();
        }
    }
    assert!(wrong.is_empty(), "these lines are in the wrong place:\n\n{wrong}");
}

#[test]
fn a_product_file_can_be_read_at_once() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > MOST_LINES)
        .map(|source| format!("  src/{} has {} lines", source.path, source.lines))
        .collect();
    let why = "a file that is too long to be read at once holds more than one thing: split it by noun";
    assert!(long.is_empty(), "longer than {MOST_LINES} lines:\n{}\n{why}", long.join("\n"));
}

/// The modules with unsafe code: libvirt's callbacks and lists, what the system is asked that no library asks safely, the name
/// by which the allocator finds its settings, and an allocator that counts, which is in tests alone.
const UNSAFE: [&str; 4] = ["allocations.rs", "allocator.rs", "hypervisor/libvirt/ffi.rs", "unwrapped.rs"];

/// Everywhere else the compiler refuses it (`unsafe_code` in Cargo.toml), and clippy wants a reason for each block.
#[test]
fn unsafe_code_is_in_these_modules_and_says_why_it_is_sound() {
    let allowed = |source: &&Source| source.code.iter().any(|(_, line)| line.contains("unsafe_code"));
    let found: Vec<String> = sources().iter().filter(allowed).map(|source| source.path.clone()).collect();
    assert_eq!(found, UNSAFE, "keep unsafe code where it is looked at");
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for lint in ["unsafe_code = \"deny\"", "undocumented_unsafe_blocks = \"deny\""] {
        assert!(manifest.lines().any(|line| line == lint), "Cargo.toml has no longer: {lint}");
    }
}

#[test]
fn the_tests_that_the_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("tests"), &mut files);
    let all: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in ["README.md", "src/operator/mod.rs", "src/cli/help/security.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        // A test's name is a sentence: no other name in these texts has as many words.
        let words = text.split('`').skip(1).step_by(2).map(|word| word.rsplit("::").next().unwrap());
        let names = words.filter(|word| {
            word.matches('_').count() > 4 && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        });
        let mut count = 0;
        for name in names {
            assert!(all.contains(&format!("fn {name}(")), "{file} promises the test '{name}', which is not there");
            count += 1;
        }
        assert!(count > 1, "{file} names no tests any more: this test reads it wrongly");
    }
}

#[test]
fn the_reader_sees_through_nested_imports_comments_and_quotes() {
    assert_eq!(imports("use a::{b, c::{d, e as f}, g};"), ["a::b", "a::c::d", "a::c::e as f", "a::g"]);
    assert_eq!(imports("pub use crate::a;"), ["crate::a"]);
    let text = "// tokio::a\nuse crate::hypervisor::{\n    // why\n    fake::World,\n};\nlet a = 1;\n#[cfg(test)]\nmod tests {\n    use tokio::b;\n}\nlet b = 2;";
    let code = code(text);
    assert_eq!(
        code,
        [(2, "crate::hypervisor::fake::World".to_owned()), (6, "let a = 1;".to_owned()), (11, "let b = 2;".to_owned())]
    );
    assert!(says(&code[0].1, "hypervisor::fake") && says("a(tokio::spawn)", "tokio::"));
    assert!(!says("my_tokio::spawn", "tokio::") && !says(r#"a("tokio::spawn")"#, "tokio::"));
}
