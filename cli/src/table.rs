//! Rows → a table for people, on standard output. Programs take `--json`.

use std::io::Write as _;

/// Columns as wide as their widest cell, two spaces between; a column of numbers is flush right. No trailing spaces.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_str());
        cells.chain([head[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let widths: [usize; N] = std::array::from_fn(width);
    let is_right: [bool; N] = std::array::from_fn(|column| rows.iter().all(|row| is_number(&row[column])));
    let mut text = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths[column] - cell.chars().count());
            let (left, right) = if is_right[column] { (gap.as_str(), "") } else { ("", gap.as_str()) };
            line.extend([left, cell, right, "  "]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes `text` to standard output. That nobody reads it to its end is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [["nginx", "7", ""], ["a", "1200", "behind"]].map(|row| row.map(str::to_owned));
        let lines = "INPUT  OFFSET  NOTE\nnginx       7\na        1200  behind\n";
        assert_eq!(table(["INPUT", "OFFSET", "NOTE"], &rows), lines);
        assert_eq!(table(["INPUT"], &[]), "INPUT\n");
    }
}
