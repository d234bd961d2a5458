//! Times as kubectl tells them.

use jiff::Timestamp;
use serde_json::Value;

/// A span in one or two units, the coarser the longer: `45s`, `5m10s`, `3h`, `2d4h`.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |whole: i64, unit: char, rest: i64, small: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

/// How long ago a time of the API was.
pub(crate) fn age(value: &Value, now: Timestamp) -> String {
    time(value).map_or_else(|| "<unknown>".into(), |at| span(now.duration_since(at).as_secs()))
}

/// In how long a time of the API is.
pub(crate) fn ahead(value: &Value, now: Timestamp) -> String {
    match time(value) {
        None => "<never>".into(),
        Some(at) if at <= now => "now".into(),
        Some(at) => format!("in {}", span(at.duration_since(now).as_secs())),
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_the_coarser_the_longer() {
        for (seconds, told) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (310, "5m10s"),
            (3600, "60m"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (187_200, "2d4h"),
            (864_000, "10d"),
        ] {
            assert_eq!(span(seconds), told, "{seconds}");
        }
    }
}
