//! Tables for a person to read: columns as wide as their widest cell, two blanks apart. One for all commands that list.

/// A table of a header and rows.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut all = vec![header.map(str::to_owned)];
    all.extend(rows);
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number in the largest unit that it fills.
pub fn scaled(number: u64, units: &[(u64, &str)]) -> String {
    match units.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", number as f64 / *unit as f64),
        None => number.to_string(),
    }
}

/// Bytes in the largest binary unit that they fill.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB")];
    match number {
        0..1024 => format!("{number} B"),
        _ => scaled(number, &UNITS),
    }
}

/// What stands in a cell of which nothing is known.
pub fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            ["a".to_owned(), "é".to_owned()],
            ["bbb".to_owned(), String::new()],
        ];
        assert_eq!(table(["X", "YY"], rows), "X    YY\na    é\nbbb\n");
    }

    #[test]
    fn bytes_are_said_in_their_largest_unit() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(3 << 29), "1.50 GiB");
        assert_eq!(scaled(1_500_000, &[(1_000_000, "M")]), "1.50M");
    }
}
