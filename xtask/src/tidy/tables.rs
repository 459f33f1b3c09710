//! Rows that stand in a table of a document twice, as a merge leaves them.

use std::collections::HashMap;

use super::{Finding, Subject};

/// Documents whose tables have one row for each thing, named in the first cell.
const KEYED: [&str; 5] = [
    "docs/conformance.md",
    "docs/glossary.md",
    "docs/limits.md",
    "docs/policy.md",
    "docs/threat-model.md",
];

/// Finds rows of one table that are equal, and in documents with a row for each thing also those
/// that begin with the same cell.
pub(super) fn doubled(subject: &Subject) -> Vec<Finding> {
    let documents = subject
        .texts
        .iter()
        .filter(|(path, _)| super::docs::is_document(path));
    documents
        .flat_map(|(path, text)| in_document(path, text))
        .collect()
}

fn in_document(path: &str, text: &str) -> Vec<Finding> {
    let is_keyed = KEYED.contains(&path);
    let mut findings = Vec::new();
    let mut rows: HashMap<String, usize> = HashMap::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let cells = cells(line);
        if fenced || cells.is_empty() {
            rows.clear();
            continue;
        }
        let is_rule = cells
            .iter()
            .all(|cell| cell.chars().all(|c| c == '-' || c == ':'));
        if is_rule {
            continue;
        }
        let first = cells.first().cloned().unwrap_or_default();
        let key = if is_keyed { first } else { cells.join(" | ") };
        if let Some(earlier) = rows.insert(key.clone(), index + 1) {
            let shown: String = key.chars().take(60).collect();
            findings.push(Finding::new(
                path,
                index + 1,
                format!("row `{shown}` stands in line {earlier} already; keep one of them"),
            ));
        }
    }
    findings
}

/// Returns the cells of a row, each with single spaces; nothing where the line is no row.
fn cells(line: &str) -> Vec<String> {
    let Some(row) = line.strip_prefix('|') else {
        return Vec::new();
    };
    let row = row.strip_suffix('|').unwrap_or(row);
    let plain = |cell: &str| cell.split_whitespace().collect::<Vec<_>>().join(" ");
    row.split('|').map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| id | attack | tests |
|---|:--|--:|
| A1 | reads | `a` |
| A2 | writes | `b` |
";

    #[test]
    fn a_row_stands_once_in_a_table() {
        let path = "docs/threat-model.md";
        let same = "| A1 | reads | `a` |\n";
        let spaced = "|A1|  reads |`a`|\n";
        let changed = "| A1 | reads more | `c` |\n";
        for (path, more, expected) in [
            (path, "", None),
            (path, same, Some(5)),
            (path, spaced, Some(5)),
            // The same attack with another text is what a merge leaves, too.
            (path, changed, Some(5)),
            ("docs/questions.md", same, Some(5)),
            ("README.md", spaced, Some(5)),
            ("docs/questions.md", changed, None),
            // Another table, an example, and what is no document.
            (path, "\ntext\n\n| A1 | reads | `a` |\n", None),
            (path, "```\n| A1 | reads | `a` |\n```\n", None),
            ("crates/cli/src/main.rs", same, None),
        ] {
            let texts = vec![(path.to_owned(), format!("{TABLE}{more}"))];
            let subject = Subject {
                texts,
                ..Subject::default()
            };
            let found = doubled(&subject);
            let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
            let expected: Vec<_> = expected.map(Some).into_iter().collect();
            assert_eq!(lines, expected, "{path}: {more}: {found:?}");
        }
    }
}
