//! Times as they are typed and shown: `90s`, `30m`, `2h`, `1d`.

const UNITS: [(char, u32); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

/// Reads a time in seconds; a number without unit is seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let bad = || format!("'{text}' is no time: write a whole number with s, m, h or d, as 90s, 30m, 2h or 1d");
    let (number, factor) = match UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(*unit)?, *factor))) {
        Some(known) => known,
        None => (text, 1),
    };
    if !number.bytes().all(|c| c.is_ascii_digit()) {
        return Err(bad());
    }
    number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor)).filter(|&time| time > 0).ok_or_else(bad)
}

/// Shows a time by its two largest units: `2h 5m`.
pub(super) fn shown(seconds: u64) -> String {
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, factor) in UNITS {
        let count = left / u64::from(factor);
        left %= u64::from(factor);
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, is) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("45", 45)] {
            assert_eq!(seconds(text), Ok(is));
        }
        for bad in ["", "s", "0s", "-1s", "1.5h", "2w", "h2", "99999d", "+5s", "１s"] {
            assert!(seconds(bad).unwrap_err().contains("30m"), "{bad:?} was taken");
        }
    }

    #[test]
    fn times_are_shown_by_their_largest_units() {
        for (time, is) in [(0, "0s"), (59, "59s"), (60, "1m"), (7500, "2h 5m"), (90_061, "1d 1h")] {
            assert_eq!(shown(time), is);
        }
    }
}
