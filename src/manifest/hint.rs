//! "Did you mean …?"

/// The candidate that differs from a word by the fewest letters, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = word.chars().count() / 3 + 1;
    let far = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    far.filter(|(distance, _)| *distance <= most).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, to leave out, to replace or to swap with their neighbour, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    // Nobody means a word of this length.
    const LONGEST: usize = 64;
    let letters = |text: &str| text.to_lowercase().chars().take(LONGEST).collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognised_and_another_word_is_not() {
        let fields = ["memory", "vcpus", "image", "domainType", "bootDeadlineSeconds"];
        for (word, meant) in [
            ("memroy", Some("memory")),
            ("Memory", Some("memory")),
            ("vcpu", Some("vcpus")),
            ("domaintype", Some("domainType")),
            ("bootDeadline", None),
            ("disk", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, fields), meant, "{word}");
        }
    }
}
