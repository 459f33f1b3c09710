//! Files of others that are kept here: each is what its source says it is.

use sha2::{Digest as _, Sha256};

use super::{Finding, Subject};

/// How the name of a file ends that says where others come from.
const SOURCE: &str = ".source.toml";
/// The table of that file with the digests of those beside it.
const TABLE: &str = "[sha256]";

/// Finds files that are not what their source says, and sources that name no file.
pub(super) fn changed(subject: &Subject) -> Vec<Finding> {
    let is_source = |(path, _): &&(String, String)| path.ends_with(SOURCE);
    let sources = subject.texts.iter().filter(is_source);
    sources
        .flat_map(|(path, text)| of_source(subject, path, text))
        .collect()
}

fn of_source(subject: &Subject, source: &str, text: &str) -> Vec<Finding> {
    let folder = source.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut lines = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| *line != TABLE);
    lines.next();
    let mut findings = Vec::new();
    let mut count = 0;
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        count += 1;
        let parts = line.split_once(" = ");
        let Some((name, digest)) = parts.map(|(a, b)| (a.trim_matches('"'), b.trim_matches('"')))
        else {
            let message = "expected `\"FILE\" = \"SHA-256\"`";
            findings.push(Finding::new(source, index + 1, message));
            continue;
        };
        let path = format!("{folder}/{name}");
        let found = subject.texts.iter().find(|(found, _)| *found == path);
        let found = found.map(|(_, text)| format!("{:x}", Sha256::digest(text.as_bytes())));
        if found.as_deref() != Some(digest) {
            let message = format!("`{name}` is not there or was changed; take it from its source");
            findings.push(Finding::new(source, index + 1, message));
        }
    }
    if count == 0 {
        findings.push(Finding::new(
            source,
            None,
            format!("`{TABLE}` names no file"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{Subject, changed};

    #[test]
    fn a_changed_file_is_found() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let source = format!("version = \"1\"\n\n[sha256]\n\"a.js\" = \"{digest}\"\n");
        let of = |file: &str, text: &str, source: &str| {
            let files = [(file, text), ("x/lib.source.toml", source)];
            changed(&Subject::fixture(&files)).len()
        };
        assert_eq!(of("x/a.js", "abc", &source), 0);
        assert_eq!(of("x/a.js", "abd", &source), 1);
        assert_eq!(of("a.js", "abc", &source), 1);
        assert_eq!(of("x/a.js", "abc", "version = \"1\"\n"), 1);
        assert_eq!(of("x/a.js", "abc", "[sha256]\nnonsense\n"), 1);
    }
}
