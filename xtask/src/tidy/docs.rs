//! What documents say about files and variables.

use std::path::Path;

use super::{Finding, Subject};

/// Finds paths in documents that do not exist: link targets, and code spans that look like a
/// path of the repository.
pub(super) fn paths(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (document, text) in subject.texts.iter().filter(|(path, _)| is_document(path)) {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (index, line) in prose(text) {
            let links = links(line)
                .into_iter()
                .filter_map(|target| link_path(folder, target));
            let spans = code_spans(line)
                .into_iter()
                .filter_map(|span| span_path(subject, span));
            let missing = links
                .chain(spans)
                .filter(|path| !path.is_empty() && !subject.exists(path));
            findings.extend(missing.map(|path| {
                Finding::new(
                    document,
                    index + 1,
                    format!("`{path}` does not exist; correct the path or remove it"),
                )
            }));
        }
    }
    findings
}

/// Finds variables of ours that production code names and the reference does not.
pub(super) fn environment(subject: &Subject) -> Vec<Finding> {
    const PREFIX: &str = "\"STOCKADE_";
    let reference: String = subject
        .texts
        .iter()
        .filter(|(path, _)| path.starts_with("docs/reference/"))
        .map(|(_, text)| text.as_str())
        .collect();
    let mut findings = Vec::new();
    let sources = subject
        .sources
        .iter()
        .filter(|source| !source.is_test && source.path.starts_with("crates/"));
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            for (at, _) in line.match_indices(PREFIX) {
                let rest = line.get(at + 1..).unwrap_or_default();
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                    .collect();
                if rest
                    .get(name.len()..)
                    .is_some_and(|end| end.starts_with('"'))
                    && !reference.contains(&format!("`{name}`"))
                {
                    findings.push(Finding::new(
                        &source.path,
                        index + 1,
                        format!("`{name}` is not in docs/reference; describe it there"),
                    ));
                }
            }
        }
    }
    findings
}

pub(super) fn is_document(path: &str) -> bool {
    let is_markdown = Path::new(path)
        .extension()
        .is_some_and(|extension| extension == "md");
    is_markdown && (path.starts_with("docs/") || !path.contains('/'))
}

/// Returns the targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let ends = line
        .match_indices("](")
        .filter_map(|(at, _)| line.get(at + 2..));
    ends.filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

fn link_path(folder: &str, target: &str) -> Option<String> {
    let path = target.split(['#', ' ']).next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Returns the lines of a document outside blocks of code, with their indices.
pub(super) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let is_outside = |(_, line): &(usize, &str)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    };
    text.lines().enumerate().filter(is_outside).collect()
}

pub(super) fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// Returns the path in a code span when its first part is a folder of the repository.
fn span_path(subject: &Subject, span: &str) -> Option<String> {
    // A pattern or a placeholder names no single file.
    if span.contains(|c: char| c.is_whitespace() || "*<>{}$…|".contains(c)) {
        return None;
    }
    let is_placeholder =
        |part: &str| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    if span
        .split('/')
        .any(|part| is_placeholder(part.split('.').next().unwrap_or_default()))
        && !subject.exists(span)
    {
        return None;
    }
    let (first, _) = span.split_once('/')?;
    let path = span.split(':').next().unwrap_or_default();
    (!first.is_empty() && subject.exists(first)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_code_spans_must_exist() {
        for (document, line, missing) in [
            (
                "docs/howto/a.md",
                "see [b](b.md) and [c](../c.md#part)",
                vec!["docs/c.md"],
            ),
            (
                "docs/howto/a.md",
                "[x](https://x.test/y) [y](#here)",
                vec![],
            ),
            (
                "README.md",
                "in `crates/a/src/lib.rs:12` and `crates/a/src/gone.rs`",
                vec!["crates/a/src/gone.rs"],
            ),
            (
                "README.md",
                "`crates/*/src`, `crates/NAME/x.rs`, `a/b`, `/proc/self`",
                vec![],
            ),
            (
                "README.md",
                "the folder `crates/a/` and [it](crates/b)",
                vec!["crates/b"],
            ),
            ("README.md", "```\n[b](gone.md)\n```", vec![]),
            ("crates/a/notes.md", "[b](gone.md)", vec![]),
        ] {
            let subject = Subject::fixture(&[
                (document, line),
                ("crates/a/src/lib.rs", ""),
                ("docs/howto/b.md", ""),
            ]);
            let found: Vec<_> = paths(&subject)
                .into_iter()
                .map(|finding| finding.message)
                .collect();
            let expected: Vec<_> = missing
                .iter()
                .map(|path| format!("`{path}` does not exist; correct the path or remove it"))
                .collect();
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_variable_must_be_in_the_reference() {
        let code = "const A: &str = \"STOCKADE_SHOWN\";\nconst B: &str = \"STOCKADE_HIDDEN\";\n// \"STOCKADE_*\" are ours\n";
        let subject = Subject::fixture(&[
            ("crates/cli/src/env.rs", code),
            (
                "crates/cli/tests/t.rs",
                "const C: &str = \"STOCKADE_TEST\";",
            ),
            ("docs/reference/environment.md", "`STOCKADE_SHOWN`"),
        ]);
        let found: Vec<_> = environment(&subject)
            .into_iter()
            .map(|finding| (finding.line, finding.message))
            .collect();
        assert_eq!(
            found,
            [(
                Some(2),
                "`STOCKADE_HIDDEN` is not in docs/reference; describe it there".to_owned()
            )]
        );
    }
}
