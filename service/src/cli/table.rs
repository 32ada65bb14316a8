//! Tables for people.

/// Rows in columns as wide as their widest cell, in characters.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |cell: &String| cell.chars().count();
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| width(&row[i])).max().unwrap_or_default());
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// `3.4 GB`, `1.7 G`, `450 k`
pub(super) fn short(value: u64, unit: &str) -> String {
    let value = value as f64;
    let (scaled, prefix) = match value {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e3.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{scaled:.1} {prefix}{unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People choose their hardware and watch their disks by these.
    #[test]
    fn columns_are_aligned_and_numbers_short() {
        assert_eq!([short(0, "B"), short(450_000, "")], ["0.0 B", "450.0 k"]);
        let rows = [["é", "b"], ["wide", "c"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "é     b\nwide  c\n");
    }
}
