//! Makes what a guest sends fit for a message, a log or a terminal.

/// What stands for a character that is not shown.
const HIDDEN: char = '\u{FFFD}';

/// `bytes` as text of at most `limit` bytes, in one line: white space is a space; control characters (so no escape sequence
/// survives), characters that change the direction of text or take no room, and what is not UTF-8 are replaced.
pub fn printable(bytes: &[u8], limit: usize) -> String {
    const CUT: char = '…';
    // More than enough to fill the limit with anything but white space.
    let seen = &bytes[..bytes.len().min(limit.saturating_mul(4))];
    let decoded = String::from_utf8_lossy(seen);
    let mut text = String::new();
    let mut blank = false;
    for character in decoded.trim().chars() {
        if character.is_whitespace() {
            blank = true;
            continue;
        }
        let shown = if is_hidden(character) { HIDDEN } else { character };
        let space = if blank { " " } else { "" };
        if text.len() + space.len() + shown.len_utf8() + CUT.len_utf8() > limit {
            text.push(CUT);
            return text;
        }
        text.push_str(space);
        text.push(shown);
        blank = false;
    }
    if seen.len() < bytes.len() {
        text.push(CUT);
    }
    text
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
            | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_lines_and_directions_do_not_survive() {
        assert_eq!(printable(b"\x1b[31mred\r\nline\ttab\x07 \x00", 100), "\u{FFFD}[31mred line tab\u{FFFD} \u{FFFD}");
        assert_eq!(printable("a\u{202E}b\u{200B}c\u{9b}d".as_bytes(), 100), "a\u{FFFD}b\u{FFFD}c\u{FFFD}d");
        assert_eq!(printable(b"\xff\xfe ok", 100), "\u{FFFD}\u{FFFD} ok");
        assert_eq!(printable(b"  \n ", 100), "");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        assert_eq!(printable(&[b'x'; 5000], 10), "xxxxxxx…");
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_its_limit_or_holds_a_control_character(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), limit in 3usize..200,
        ) {
            let text = printable(&bytes, limit);
            prop_assert!(text.len() <= limit);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
