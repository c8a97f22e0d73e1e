//! Aligned columns, sizes and times for people.

use std::time::Duration;

/// A table with a heading; numbers should be given right-aligned with `true`.
pub fn table(heading: &[(&str, bool)], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (index, cell) in cells.iter().enumerate() {
            let padding = " ".repeat(widths[index].saturating_sub(cell.chars().count()));
            if index > 0 {
                text.push_str("  ");
            }
            if heading[index].1 {
                text.push_str(&padding);
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.push_str(&padding);
            }
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(heading.iter().map(|(name, _)| *name).collect());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// A size in binary multiples with one decimal (`91.3 MiB`).
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    // Shown with one decimal only, so the lost precision does not matter.
    #[expect(clippy::cast_precision_loss)]
    let mut value = size as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A length of time for people: `7 s`, `1 min 35 s`, `2 h 5 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long name".to_owned(), "12345".to_owned()]];
        let text = table(&[("image", false), ("size", true)], &rows);
        assert_eq!(text, "image       size\na              1\nlong name  12345\n");
    }

    #[test]
    fn sizes_read_well_at_the_borders() {
        let shown: Vec<_> = [0, 1023, 1024, 1_048_575, 1_048_576, 95_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.0 MiB", "90.6 MiB"]);
    }

    #[test]
    fn times_read_well() {
        let shown = [0, 59, 60, 95, 3599, 3600, 90_061].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(
            shown,
            ["0 s", "59 s", "1 min 0 s", "1 min 35 s", "59 min 59 s", "1 h 0 min", "25 h 1 min"]
        );
    }
}
