//! What agents said, in a few words. Foreign text is escaped.

use serde_json::Value;
use stockade_types::RawText;

use crate::{
    cause::Said,
    model::Listed,
    text::{bytes, cut, safe},
};

/// Members of arguments that say what a call is about, the most telling first.
const TELLING: [&str; 12] = [
    "command",
    "cmd",
    "file_path",
    "filePath",
    "absolute_path",
    "notebook_path",
    "path",
    "url",
    "query",
    "pattern",
    "description",
    "prompt",
];
/// What stands in front of a path in a patch.
const IN_PATCHES: [&str; 3] = ["*** Add File: ", "*** Update File: ", "*** Delete File: "];
/// Characters of what was said that one line has.
const SAID_CHARS_MAX: usize = 300;

/// Says what a tool call is about, if its arguments are in the record.
pub fn about(arguments: Option<&Said>) -> Option<String> {
    let text = arguments?.text.as_ref()?.to_os().into_string().ok()?;
    let line = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(members)) => TELLING
            .iter()
            .find_map(|name| members.get(*name))
            .map(words)
            .or_else(|| patched(members.values().find_map(Value::as_str)?))?,
        Ok(_) | Err(_) => patched(&text).unwrap_or(text),
    };
    Some(cut(&safe(line.trim()), SAID_CHARS_MAX))
}

/// Names the files of a patch.
fn patched(text: &str) -> Option<String> {
    let paths: Vec<&str> = text
        .lines()
        .filter_map(|line| IN_PATCHES.iter().find_map(|mark| line.strip_prefix(mark)))
        .collect();
    (!paths.is_empty()).then(|| paths.join(" "))
}

/// Writes a value as words: a list is a command line.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(words).collect();
            words.join(" ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// Says what a model was told: the last text that is not the agent's own, which it marks like a
/// document.
pub fn prompt(parts: &Listed<Said>) -> String {
    let texts = || parts.first.iter().filter_map(|said| said.text.as_ref());
    let own = |text: &&RawText| !matches!(text.as_bytes().first(), Some(b'<' | b'#'));
    let last = texts().rev().find(own).or_else(|| texts().next_back());
    if let Some(text) = last {
        let line = text.display();
        return format!("\"{}\"", cut(line.trim(), SAID_CHARS_MAX));
    }
    let all: u64 = parts.first.iter().map(|said| said.bytes).sum();
    format!("({}, not kept)", bytes(all))
}

/// Returns all texts that were said, each in lines of its own.
pub fn whole_prompt(parts: &Listed<Said>) -> String {
    let texts: Vec<String> = (parts.first.iter())
        .filter_map(|said| said.text.as_ref())
        .map(RawText::display)
        .collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use crate::{Listed, Said};

    use super::{about, prompt};

    fn said(text: &str) -> Said {
        Said {
            bytes: 7,
            digest: None,
            text: Some(RawText::from(text)),
        }
    }

    #[test]
    fn a_call_is_told_by_what_it_names() {
        for (arguments, expected) in [
            (r#"{"command":"ls -la","description":"Lists"}"#, "ls -la"),
            (r#"{"command":["ls","-la"]}"#, "ls -la"),
            (r#"{"content":"x","file_path":"/w/a"}"#, "/w/a"),
            (
                "*** Begin Patch\n*** Update File: a.rs\n*** Add File: b.rs\n",
                "a.rs b.rs",
            ),
            (
                r#"{"input":"*** Begin Patch\n*** Update File: a.rs\n"}"#,
                "a.rs",
            ),
            ("free words", "free words"),
        ] {
            let found = about(Some(&said(arguments)));
            assert_eq!(found.as_deref(), Some(expected), "{arguments}");
        }
        assert_eq!(about(Some(&said(r#"{"odd":1}"#))), None);
        assert_eq!(about(Some(&Said::default())), None);
        assert!(
            !about(Some(&said("a\u{1b}[31m")))
                .unwrap()
                .contains('\u{1b}')
        );
    }

    #[test]
    fn the_person_s_words_are_found_among_the_agent_s() {
        let parts = |texts: &[&str]| Listed {
            count: 1,
            first: texts.iter().map(|text| said(text)).collect(),
        };
        for (texts, expected) in [
            (&["<system-reminder>x", "do it", "<more>"][..], "\"do it\""),
            (&["# AGENTS.md", "<environment>", "do it"], "\"do it\""),
            (&["<only>"], "\"<only>\""),
        ] {
            assert_eq!(prompt(&parts(texts)), expected);
        }
        let unkept = Listed {
            count: 1,
            first: vec![Said {
                bytes: 40,
                ..Said::default()
            }],
        };
        assert_eq!(prompt(&unkept), "(40 B, not kept)");
    }
}
