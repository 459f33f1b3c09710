//! Exports as real agents make them, with invented content: each file has the signal and the encoding,
//! what is exported (binary ones in Base64), and what is claimed by it. And what hostile ones send.

use std::{fmt::Write as _, fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use stockade_agents::{
    Content,
    otlp::{Claim, Encoding, Export, Signal, read},
};
use stockade_fuzz::{TRIES, Target};

const EXPORT: &str = "--- export\n";
const CLAIMS: &str = "--- claims\n";

struct Golden {
    path: PathBuf,
    signal: Signal,
    encoding: Encoding,
    body: Vec<u8>,
    claims: String,
}

fn all() -> Vec<Golden> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/otlp");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    let one = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once(EXPORT).unwrap();
        let (body, claims) = rest.split_once(CLAIMS).unwrap();
        let (signal, encoding) = head.trim().split_once(' ').unwrap();
        let is_binary = encoding == "binary";
        Golden {
            signal: if signal == "logs" {
                Signal::Logs
            } else {
                Signal::Traces
            },
            encoding: if is_binary {
                Encoding::Binary
            } else {
                Encoding::Json
            },
            body: if is_binary {
                BASE64_STANDARD.decode(body.replace('\n', "")).unwrap()
            } else {
                body.as_bytes().to_vec()
            },
            claims: claims.to_owned(),
            path,
        }
    };
    paths.into_iter().map(one).collect()
}

fn content(content: &Content) -> String {
    let text = content.text().map(String::from_utf8_lossy);
    text.map_or_else(|| format!("{content:?}"), |text| format!("{text:?}"))
}

/// Writes what is claimed, a line each.
fn shown(export: &Export) -> String {
    let mut text = format!("records: {}\n", export.records);
    for claim in &export.claims {
        match claim {
            Claim::Prompt(prompt) => {
                let aside = if prompt.aside { "aside " } else { "" };
                for part in prompt.parts.entries() {
                    writeln!(text, "prompt: {aside}{}", content(part)).unwrap();
                }
            }
            Claim::Called(call) => {
                let arguments = call.arguments.as_ref().map(content).unwrap_or_default();
                writeln!(text, "called: {} {} {arguments}", call.id, call.name).unwrap();
            }
            Claim::Returned(outcome) => {
                let said = outcome.content.as_ref().map(content).unwrap_or_default();
                let line = format!("returned: {} {} bytes {said}", outcome.call, outcome.bytes);
                writeln!(text, "{}", line.trim_end()).unwrap();
            }
            Claim::Model(call) => writeln!(text, "model: {call:?}").unwrap(),
        }
    }
    text
}

#[test]
fn exports_are_read_as_agents_make_them() {
    for golden in all() {
        let shown = shown(&read(golden.signal, golden.encoding, &golden.body).unwrap());
        if std::env::var_os("STOCKADE_GOLDEN").is_some() {
            let text = fs::read_to_string(&golden.path).unwrap();
            let kept = text.split_once(CLAIMS).unwrap().0;
            fs::write(&golden.path, format!("{kept}{CLAIMS}{shown}")).unwrap();
        } else {
            assert_eq!(shown, golden.claims, "{}", golden.path.display());
        }
    }
}

/// Claude Code and Codex export the same in both forms.
#[test]
fn both_forms_say_the_same() {
    let lines = |name: &str| {
        let mut all = all().into_iter();
        let found = all
            .find(|golden| golden.path.ends_with(format!("{name}.txt")))
            .unwrap();
        let lines = found
            .claims
            .lines()
            .filter(|line| line.starts_with("prompt") || line.starts_with("called: toolu_01AA"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(lines("claude").len() >= 2);
    assert_eq!(lines("claude"), lines("claude-binary"));
    assert_eq!(lines("codex"), lines("codex-binary"));
}

/// An export that is cut anywhere is not taken; what was sent whole comes again.
#[test]
fn nothing_is_taken_of_an_export_that_is_cut_within_a_field() {
    for golden in all() {
        let whole = read(golden.signal, golden.encoding, &golden.body).unwrap();
        let step = (golden.body.len() / 500).max(1);
        for length in (0..golden.body.trim_ascii_end().len()).step_by(step) {
            let cut = golden.body.get(..length).unwrap();
            match read(golden.signal, golden.encoding, cut) {
                // The binary form may end behind any whole message.
                Ok(export) => assert!(
                    golden.encoding == Encoding::Binary
                        && (golden.signal == Signal::Traces
                            || whole.claims.starts_with(&export.claims)),
                    "{} {length}",
                    golden.path.display()
                ),
                Err(_) => assert!(length > 0 || golden.encoding == Encoding::Json),
            }
        }
    }
}

/// A field of the binary form.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

/// A log record of Codex with a prompt.
fn prompt(text: &[u8]) -> Vec<u8> {
    let attribute = |name: &[u8], value: &[u8]| {
        let value = field(2, &field(1, value));
        field(6, &[field(1, name), value].concat())
    };
    let record = [
        attribute(b"event.name", b"codex.user_prompt"),
        attribute(b"prompt", text),
    ];
    field(2, &record.concat())
}

fn export(records: &[u8]) -> Vec<u8> {
    field(1, &field(2, records))
}

#[test]
fn a_million_records_are_counted_and_few_are_kept() {
    let body = export(&prompt(b"x").repeat(1_000_000));
    let read = read(Signal::Logs, Encoding::Binary, &body).unwrap();
    assert_eq!(read.records, 1_000_000);
    assert_eq!(read.claims.len(), 4096);
    assert_eq!(read.dropped, 1_000_000 - 4096);
}

#[test]
fn texts_that_are_no_utf_8_are_taken_as_they_are() {
    let body = export(&prompt(b"\xff\xfe\x00"));
    let read_binary = read(Signal::Logs, Encoding::Binary, &body).unwrap();
    let [Claim::Prompt(prompt)] = read_binary.claims.as_slice() else {
        panic!("{read_binary:?}");
    };
    let parts = prompt.parts.entries();
    assert_eq!(parts[0].text(), Some(&b"\xff\xfe\x00"[..]));
    // Half of a character, as exporters leave it that cut texts by their own count.
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[
        {"key":"event.name","value":{"stringValue":"codex.user_prompt"}},
        {"key":"prompt","value":{"stringValue":"a\ud83d"}}]}]}]}]}"#;
    let export = read(Signal::Logs, Encoding::Json, json).unwrap();
    assert_eq!(export.claims.len(), 1);
}

/// Depth is refused or skipped, and costs no stack.
#[test]
fn what_is_nested_without_an_end_does_no_harm() {
    for length in [64, 127, 1_000, 1_000_000] {
        let nested = format!(
            "{{\"resourceLogs\":{}{}}}",
            "[{\"x\":".repeat(length),
            "}]".repeat(length)
        );
        assert!(read(Signal::Logs, Encoding::Json, nested.as_bytes()).is_err());
        let value = format!(
            "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{}1{}}}]}}]}}]}}",
            "{\"arrayValue\":{\"values\":[".repeat(length),
            "]}}".repeat(length)
        );
        drop(read(Signal::Logs, Encoding::Json, value.as_bytes()));
    }
    let mut value = field(1, b"x");
    for _ in 0..20_000 {
        value = field(5, &field(1, &value));
        if value.len() > 200_000 {
            break;
        }
    }
    let record = field(2, &field(5, &value));
    let read = read(Signal::Logs, Encoding::Binary, &export(&record)).unwrap();
    assert_eq!((read.records, read.claims.len()), (1, 0));
}

#[test]
fn what_is_no_export_is_refused() {
    for body in [
        &b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
        b"\x0a\x05ab",
        b"\x0b",
        b"\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"{}",
    ] {
        assert!(
            read(Signal::Logs, Encoding::Binary, body).is_err(),
            "{body:?}"
        );
    }
    for body in [
        "",
        "[]",
        "{",
        "{}x",
        "null",
        "{\"resourceLogs\":{}}",
        "{\"resourceLogs\":[1]}",
    ] {
        assert!(
            read(Signal::Logs, Encoding::Json, body.as_bytes()).is_err(),
            "{body}"
        );
    }
    // Nothing is an export of nothing.
    assert_eq!(
        read(Signal::Logs, Encoding::Binary, b"").unwrap(),
        Export::default()
    );
    assert_eq!(
        read(Signal::Logs, Encoding::Json, b"{}").unwrap(),
        Export::default()
    );
}

const WORDS: &[&[u8]] = &[
    b"\"resourceLogs\":[",
    b"\"attributes\":[",
    b"\"stringValue\":",
    b"\"arrayValue\":{\"values\":[",
    b"codex.tool_result",
    b"claude_code.tool_result",
    b"gen_ai.operation.name",
    b"\\ud83d",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x80\x80",
    b"\xff",
    b"null",
    b"1e999",
    b"\"-1\"",
];

/// Whatever is sent, it is read without a failure and stays within its bounds.
#[test]
fn fuzz_otlp_export() {
    let target = Target {
        name: "otlp-export",
        samples: all().into_iter().map(|golden| golden.body).collect(),
        words: WORDS,
        tries: TRIES / 4,
    };
    stockade_fuzz::target(&target, |body| {
        for signal in [Signal::Logs, Signal::Traces, Signal::Metrics] {
            for encoding in [Encoding::Binary, Encoding::Json] {
                if let Ok(export) = read(signal, encoding, body) {
                    assert!(export.claims.len() <= 4096);
                    for claim in &export.claims {
                        if let Claim::Called(call) = claim {
                            assert!(call.id.as_bytes().len() <= 128);
                            drop(call.intent());
                        }
                    }
                }
            }
        }
    });
}
