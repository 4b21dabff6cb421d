//! Names out of a file in a message: escaped and cut, because the file's author chose them; and near names for a missing one.
//! Apart so that no error of the other files has to think of it.

/// Characters of a foreign text that a message shows.
const SHOWN: usize = 160;
/// Near names that a hint lists.
const NEAR: usize = 3;

/// A name in backticks, without control characters and not too long.
pub fn quoted(name: &str) -> String {
    format!("`{}`", clip(name))
}

/// The beginning of a text, without control characters.
pub(super) fn clip(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters
        .by_ref()
        .take(SHOWN)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// `; near it are …` for the names that were likely meant, or nothing.
pub(super) fn near_hint<'a>(missing: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut near: Vec<(usize, &str)> = names
        .filter_map(|name| distance(missing, name).map(|distance| (distance, name)))
        .collect();
    near.sort_unstable();
    near.truncate(NEAR);
    let near: Vec<String> = near.into_iter().map(|(_, name)| quoted(name)).collect();
    if near.is_empty() {
        String::new()
    } else {
        format!(
            "; near it {} {}",
            if near.len() == 1 { "is" } else { "are" },
            near.join(", ")
        )
    }
}

/// How far a name is from the missing one, or nothing when it is another thing altogether. A prefix more or less (`model.`)
/// is the commonest difference between checkpoints and counts least.
fn distance(missing: &str, name: &str) -> Option<usize> {
    let longest = missing.len().max(name.len());
    if longest > SHOWN {
        return None;
    }
    let below = |short: &str, long: &str| {
        long.strip_suffix(short)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    if below(missing, name) || below(name, missing) {
        return Some(0);
    }
    let edits = edits(missing.as_bytes(), name.as_bytes());
    (edits * 3 <= longest).then_some(1 + edits)
}

/// Levenshtein's distance.
fn edits(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, byte_of_a) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (byte_of_b, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let up = *cell;
            let change = diagonal + usize::from(byte_of_a != byte_of_b);
            left = change.min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
