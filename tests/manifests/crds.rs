//! The definitions of the kinds, compared with a stored text. They come from the types, and no type that changes tells
//! what becomes of its schema: whether a field may be null, say, is seen here and nowhere else.

use std::{env, fs};

use anweddol::manifest::crd;
use similar::TextDiff;

/// What `anweddol crds` printed when somebody last looked at it.
const STORED: &str = "tests/manifests/crds.yaml";
/// Set, it has the text stored as it is now. The test fails all the same: what nobody looked at is not good yet, and where it
/// is set for ever, nothing would be compared.
const ACCEPT: &str = "ANWEDDOL_ACCEPT";

#[test]
fn the_definitions_of_the_kinds_change_only_together_with_their_stored_text() {
    let file = format!("{}/{STORED}", env!("CARGO_MANIFEST_DIR"));
    let (stored, printed) = (fs::read_to_string(&file).unwrap_or_default(), crd::definitions().unwrap());
    if stored == printed {
        return;
    }
    let difference = TextDiff::from_lines(&stored, &printed).unified_diff().header(STORED, "printed").to_string();
    let what_to_do = match env::var_os(ACCEPT) {
        Some(_) => {
            fs::write(&file, printed).unwrap();
            format!("{STORED} is written anew: look at what 'git diff' says of it, and run this without {ACCEPT}")
        }
        None => format!("if it has to: {ACCEPT}=1 cargo nextest run --test manifests crds:: writes the file anew"),
    };
    panic!("'anweddol crds' prints something else than {STORED}.\n{difference}\n{what_to_do}");
}
