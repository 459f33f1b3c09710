//! Words that may not stand in any file.

use super::{Finding, Subject};

/// Hosts of package registries. Written in parts, so that this file does not name them either.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("registry.np", "mjs.org"),
    ("np", "mjs.com"),
    ("static.cr", "ates.io"),
    ("index.cr", "ates.io"),
    ("https://cr", "ates.io"),
    ("py", "pi.org"),
    ("pythonho", "sted.org"),
    ("deb.deb", "ian.org"),
    ("security.deb", "ian.org"),
];

/// Folders in which this project is developed.
const MACHINE_PATHS: &[(&str, &str)] = &[
    ("/wo", "rk/main"),
    ("/wo", "rk/shared"),
    ("/wo", "rk/steering"),
    ("/wo", "rk/.lib"),
    ("/fa", "rm/"),
];

/// Finds hosts of package registries; presets read them from the clients' own configuration.
pub(super) fn registry_hosts(subject: &Subject) -> Vec<Finding> {
    find(
        subject,
        REGISTRY_HOSTS,
        "a registry's host; take it from the client's configuration at run time",
    )
}

/// Finds paths that exist only where this project is developed.
pub(super) fn machine_paths(subject: &Subject) -> Vec<Finding> {
    find(
        subject,
        MACHINE_PATHS,
        "a path of a developer's machine; name it relative to the repository",
    )
}

fn find(subject: &Subject, words: &[(&str, &str)], what: &str) -> Vec<Finding> {
    let words: Vec<String> = words
        .iter()
        .map(|(head, tail)| format!("{head}{tail}"))
        .collect();
    let mut findings = Vec::new();
    for (path, text) in &subject.texts {
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| names(line, word)) {
                findings.push(Finding::new(path, index + 1, format!("`{word}` is {what}")));
            }
        }
    }
    findings
}

/// Tells whether a word stands in a line, and not as the end of a longer path or name.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let before = |at: usize| line.get(..at).and_then(|head| head.chars().next_back());
    line.match_indices(word)
        .any(|(at, _)| !before(at).is_some_and(|c| word.starts_with('/') && is_part(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_file() {
        for (words, find) in [
            (
                REGISTRY_HOSTS,
                registry_hosts as fn(&Subject) -> Vec<Finding>,
            ),
            (MACHINE_PATHS, machine_paths),
        ] {
            for (head, tail) in words {
                let text = format!("first\nsee {head}{tail}/x\n");
                let found = find(&Subject::fixture(&[("notes.txt", &text)]));
                assert_eq!(
                    found.first().and_then(|finding| finding.line),
                    Some(2),
                    "{text}"
                );
            }
            assert_eq!(
                find(&Subject::fixture(&[(
                    "notes.txt",
                    "registry.test /home/u/projects/main"
                )])),
                []
            );
        }
    }
}
