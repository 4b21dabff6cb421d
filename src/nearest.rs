//! "Did you mean …": the known names nearest to one that is not known. Settings, model cards and commands all ask here.

/// Up to three known names that are near enough to `name` to be worth suggesting, nearest first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| Some((score(&wanted, &candidate.to_lowercase())?, candidate)))
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `; did you mean …?`, or nothing where no name is near.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(name, known);
    if near.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", near.join(", "))
}

/// How far apart two names are, or `None` where suggesting one for the other would only puzzle.
fn score(wanted: &str, candidate: &str) -> Option<usize> {
    if wanted.len() >= 3 && candidate.contains(wanted) {
        return Some(1);
    }
    let distance = edits(wanted, candidate);
    (distance <= wanted.chars().count().max(3) / 3).then_some(distance + 1)
}

/// Levenshtein distance: insertions, deletions and substitutions.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, (y, pair)) in b.iter().zip(row.windows(2)).enumerate() {
            let (diagonal, above) = (pair.first().copied(), pair.last().copied());
            let substituted = diagonal.unwrap_or(j) + usize::from(x != *y);
            let inserted = next.last().copied().unwrap_or(i) + 1;
            next.push(substituted.min(inserted).min(above.unwrap_or(j) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("same", "same"), 0);
    }

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["max_rows", "max_model_len", "port", "device"];
        assert_eq!(nearest("max_row", known), ["max_rows"]);
        assert_eq!(nearest("prot", ["port"]), Vec::<&str>::new());
        assert_eq!(nearest("devcie", known), ["device"]);
        assert_eq!(did_you_mean("zzz", known), "");
        assert_eq!(did_you_mean("DEVICES", known), "; did you mean device?");
    }
}
