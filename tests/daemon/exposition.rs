//! Prometheus' text format, read strictly, and the rules that `promtool check metrics` keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// The most series of one family: what Prometheus can well keep of one daemon.
const MOST_SERIES: usize = 1000;

/// A family of metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family {
    help: String,
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

/// A line with a value.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// A whole answer, by the names of families.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition(pub(crate) BTreeMap<String, Family>);

impl Exposition {
    /// Reads it; what is not of the form is said, with its line.
    pub(crate) fn parse(text: &str) -> Result<Exposition, String> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let wrong = |why: &str| format!("{why}: {line}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
                let family = Family { help: help.into(), ..Family::default() };
                if families.insert(name.into(), family).is_some() {
                    return Err(wrong("told twice"));
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("no type"))?;
                let family = families.get_mut(name).ok_or_else(|| wrong("a type before its help"))?;
                if !std::mem::replace(&mut family.kind, kind.into()).is_empty() {
                    return Err(wrong("typed twice"));
                }
            } else if line.starts_with('#') {
                return Err(wrong("neither help nor type"));
            } else {
                let sample = sample(line).ok_or_else(|| wrong("no sample"))?;
                if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                    return Err(wrong("the same series twice"));
                }
                let family = family_of(&sample.name, &families).ok_or_else(|| wrong("of no family"))?;
                families.get_mut(&family).unwrap().samples.push(sample);
            }
        }
        Ok(Exposition(families))
    }

    /// The value of the one series of a name that has these labels, among others.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let same = |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|is| is == value);
            sample.name == name && labels.iter().all(same)
        };
        let found: Vec<&Sample> = self.0.values().flat_map(|family| &family.samples).filter(has).collect();
        assert!(found.len() < 2, "{name} {labels:?} is ambiguous: {found:?}");
        found.first().map(|sample| sample.value)
    }

    /// Every name that an expression can say.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.values().flat_map(|family| &family.samples).map(|sample| sample.name.clone()).collect()
    }

    /// What breaks a rule.
    pub(crate) fn lint(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, family) in &self.0 {
            wrong.extend(lint(name, family).into_iter().map(|why| format!("{name}: {why}")));
        }
        wrong
    }
}

fn family_of(sample: &str, families: &BTreeMap<String, Family>) -> Option<String> {
    if families.contains_key(sample) {
        return Some(sample.into());
    }
    let mut bases = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| sample.strip_suffix(suffix));
    bases.find(|base| families.get(*base).is_some_and(|family| family.kind == "histogram")).map(str::to_owned)
}

/// `name{label="value",…} value`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"")?;
            // The quote that no backslash is before.
            let end = value.char_indices().find(|(at, c)| *c == '"' && !value[..*at].ends_with('\\'))?.0;
            labels.insert(label.to_owned(), value[..end].to_owned());
            rest = &value[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(Sample { name: name.into(), labels, value })
}

fn plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

fn lint(name: &str, family: &Family) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rule = |kept: bool, why: &str| {
        if !kept {
            wrong.push(why.to_owned());
        }
    };
    let words: Vec<&str> = name.split('_').collect();
    rule(family.help.len() > 5, "no help");
    rule(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "no type");
    rule(!family.samples.is_empty(), "no sample");
    rule(plain(name), "its name is not of small letters, digits and _");
    rule(["anweddol", "process"].contains(&words[0]), "its name does not begin with whose it is");
    rule((family.kind == "counter") == name.ends_with("_total"), "counters, and only they, end in _total");
    let kinds = ["counter", "gauge", "histogram", "summary"];
    rule(!words.iter().any(|word| kinds.contains(word)), "its name says its type");
    let units =
        ["ms", "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "percent"];
    rule(!words.iter().any(|word| units.contains(word)), "its unit is no base unit");
    let timed = words.iter().any(|word| ["duration", "time"].contains(word));
    rule(!timed || words.contains(&"seconds"), "a time is not in seconds");
    rule(family.samples.len() <= MOST_SERIES, "too many series");
    let mut labels = family.samples.iter().flat_map(|sample| &sample.labels);
    rule(labels.all(|(label, value)| plain(label) && value.len() <= 200), "a label is odd");
    if family.kind != "histogram" {
        rule(!family.samples.iter().any(|sample| sample.labels.contains_key("le")), "'le' is for buckets");
        rule(!["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)), "it ends like a histogram's part");
    } else {
        rule(histograms(name, family), "its buckets do not grow to +Inf, its count, with a sum");
    }
    wrong
}

/// Whether each has growing buckets up to `+Inf`, which is its count, and a sum.
fn histograms(name: &str, family: &Family) -> bool {
    let mut each: BTreeMap<BTreeMap<String, String>, Vec<&Sample>> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        each.entry(labels).or_default().push(sample);
    }
    each.values().all(|samples| {
        let of = |suffix: &'static str| samples.iter().filter(move |sample| sample.name == format!("{name}{suffix}"));
        let buckets: Vec<(f64, f64)> =
            of("_bucket").filter_map(|sample| Some((sample.labels.get("le")?.parse().ok()?, sample.value))).collect();
        let grows = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let last = buckets.last().filter(|(le, _)| le.is_infinite()).map(|(_, count)| *count);
        let counts: Vec<f64> = of("_count").map(|sample| sample.value).collect();
        grows && last.is_some() && counts == Vec::from_iter(last) && of("_sum").count() == 1
    })
}

/// What `promtool check metrics` finds wrong, where there is one.
pub(crate) fn promtool(text: &str) -> Option<String> {
    let tool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut tool = tool.ok()?;
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    (!said.status.success()).then_some(text)
}

#[test]
fn the_lint_finds_what_promtool_would() {
    let good = "# HELP anweddol_a_seconds Some time.\n# TYPE anweddol_a_seconds histogram\n\
                anweddol_a_seconds_sum 2.5\nanweddol_a_seconds_count 3\nanweddol_a_seconds_bucket{le=\"1.0\"} 1\n\
                anweddol_a_seconds_bucket{le=\"+Inf\"} 3\n\
                # HELP anweddol_b_total Some things.\n# TYPE anweddol_b_total counter\nanweddol_b_total{c=\"d\\\"e\"} 1\n";
    let parsed = Exposition::parse(good).unwrap();
    assert_eq!(parsed.lint(), [""; 0]);
    assert_eq!(parsed.value("anweddol_b_total", &[("c", "d\\\"e")]), Some(1.0));
    for (from, to, expected) in [
        ("b_total", "b", "_total"),
        ("counter", "gauge", "_total"),
        ("{le=\"+Inf\"} 3", "{le=\"+Inf\"} 2", "+Inf"),
        ("bucket{le=\"+Inf\"}", "bucket{le=\"2\"}", "+Inf"),
        ("le=\"1.0\"} 1", "le=\"1.0\"} 4", "+Inf"),
        ("a_seconds", "a_milliseconds", "base unit"),
        ("a_seconds", "a_duration", "seconds"),
        ("anweddol_b", "b", "whose"),
        ("anweddol_b", "anweddol_B", "small letters"),
        ("{c=", "{le=", "buckets"),
        ("Some things.", ".", "help"),
    ] {
        let wrong = Exposition::parse(&good.replace(from, to)).unwrap().lint().join("\n");
        assert!(wrong.contains(expected), "{from} to {to}: {wrong:?}");
    }
    for (from, to) in [
        ("# HELP anweddol_b_total Some things.\n", ""),
        ("anweddol_b_total{c=\"d\\\"e\"} 1", "anweddol_b_total 1\nanweddol_b_total 2"),
        ("anweddol_b_total{c=\"d\\\"e\"} 1", "other 1"),
        ("anweddol_b_total{c=\"d\\\"e\"} 1", "anweddol_b_total x"),
    ] {
        Exposition::parse(&good.replace(from, to)).expect_err(to);
    }
}
