//! What tables of names are used for. Apart from the tables, so that networks that are named alike are renamed alike.

use super::view::Change;

/// Replaces a beginning by what a table has for it.
pub(super) fn replaced(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        Some(format!("{to}{rest}"))
    })
}

/// The three names of what a table has as queries, keys and values in one; none of anything else.
pub(super) fn fused(table: &[(&str, [&str; 3])], name: &str) -> Vec<(String, Change)> {
    let found = table.iter().find_map(|(from, parts)| {
        let rest = name.strip_prefix(from)?;
        Some((parts, rest))
    });
    let Some((parts, rest)) = found else {
        return Vec::new();
    };
    let part = |(n, part): (usize, &&str)| (format!("{part}{rest}"), Change::Third(n));
    parts.iter().enumerate().map(part).collect()
}
