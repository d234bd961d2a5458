//! The definitions of the kinds, compared with a stored text. They come from the types, and no type that changes tells
//! what becomes of its schema: whether a field may be null, say, is seen here and nowhere else.

use std::{env, fs};

use anweddol::manifest::crd;

/// What `anweddol crds` printed when somebody last looked at it.
const STORED: &str = "tests/manifests/crds.yaml";
/// Set, it has the text stored as it is now. The test fails all the same: what nobody looked at is not good yet, and where it
/// is set for ever, nothing would be compared.
const ACCEPT: &str = "ANWEDDOL_ACCEPT";

#[test]
fn the_definitions_of_the_kinds_change_only_together_with_their_stored_text() {
    let file = format!("{}/{STORED}", env!("CARGO_MANIFEST_DIR"));
    let (stored, printed) = (fs::read_to_string(&file).unwrap_or_default(), crd::definitions().unwrap());
    let Some(difference) = difference(&stored, &printed) else { return };
    let what_to_do = match env::var_os(ACCEPT) {
        Some(_) => {
            fs::write(&file, printed).unwrap();
            format!("{STORED} is written anew: look at what 'git diff' says of it, and run this without {ACCEPT}")
        }
        None => format!("if it has to: {ACCEPT}=1 cargo nextest run --test manifests crds:: writes the file anew"),
    };
    panic!("'anweddol crds' prints something else than {STORED}.\n{difference}\n{what_to_do}");
}

/// Where two texts first differ: in which definition, on which line, and below which fields.
fn difference(stored: &str, printed: &str) -> Option<String> {
    if stored == printed {
        return None;
    }
    let same: Vec<&str> =
        stored.lines().zip(printed.lines()).take_while(|(a, b)| a == b).map(|(line, _)| line).collect();
    let [was, is] = [stored, printed].map(|text| text.lines().nth(same.len()));
    let begin = same.iter().rposition(|line| *line == "---").unwrap_or(0);
    let name = printed.lines().skip(begin).find_map(|line| line.strip_prefix("  name: ")).unwrap_or("no definition");
    // The first key of an element stands behind its dash, at the depth of the others.
    let depth = |line: &str| line.find(|c| c != ' ' && c != '-').unwrap_or(usize::MAX);
    let (mut most, mut fields) = (was.or(is).map_or(0, depth), Vec::new());
    for line in same.iter().rev().filter(|line| **line != "---") {
        if depth(line) < most {
            most = depth(line);
            fields.push(line.trim_start_matches([' ', '-']).split(':').next().unwrap_or_default());
        }
        if most == 0 {
            break;
        }
    }
    fields.reverse();
    let [was, is] = [was, is].map(|line| line.map_or("(nothing)", str::trim));
    let (line, fields) = (same.len() + 1, fields.join("."));
    let below = if fields.is_empty() { String::new() } else { format!(", in {fields}") };
    Some(format!("{name}, line {line}{below}:\n  stored:  {was}\n  printed: {is}"))
}

#[test]
fn of_two_definitions_it_is_said_which_one_differs_and_in_which_field() {
    let printed = crd::definitions().unwrap();
    assert_eq!(difference(&printed, &printed), None);
    let second = printed.find("---\n").unwrap();
    let changed = |from: &str, to: &str| {
        let (first, rest) = printed.split_at(second);
        difference(&printed, &format!("{first}{}", rest.replacen(from, to, 1))).unwrap()
    };
    let said = changed("nullable: true\n", "");
    assert!(said.starts_with("containers.anweddol.io, line "), "{said}");
    assert!(said.contains("spec.versions.schema.openAPIV3Schema.properties."), "{said}");
    assert!(said.contains("\n  stored:  nullable: true\n"), "{said}");
    let said = changed("  name: containers.anweddol.io\n", "  name: boxes.anweddol.io\n");
    assert!(said.starts_with("boxes.anweddol.io, line ") && said.contains(", in metadata:"), "{said}");
    let said = difference(&printed, &printed[..second]).unwrap();
    assert!(said.contains("printed: (nothing)"), "{said}");
}
