//! Messages to hooks as real agents write them (Cursor's and Gemini CLI's as they document them), with
//! invented content: each file has the agent, its message, and what is claimed of it.

use std::{fmt::Write as _, fs, path::PathBuf};

use stockade_agents::{
    BODY_BYTES_MAX, Content, HookAgent, HookError, HookMessage, HookReader, ToolUse,
};
use stockade_fuzz::{TRIES, Target};
use stockade_types::RawText;

use super::golden::pieces;

const MESSAGE: &str = "--- message\n";
const CLAIMS: &str = "--- claims\n";

/// One file: its name, the agent, the message and the claims.
struct Golden {
    name: String,
    agent: HookAgent,
    message: Vec<u8>,
    claims: String,
}

fn all() -> Vec<Golden> {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/hooks");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let (agent, rest) = text.split_once(MESSAGE).unwrap();
        let (message, claims) = rest.split_once(CLAIMS).unwrap();
        Golden {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            agent: HookAgent::named(agent.trim()).unwrap(),
            message: message.trim_end().as_bytes().to_vec(),
            claims: claims.to_owned(),
        }
    };
    files.iter().map(read).collect()
}

fn read(agent: HookAgent, message: &[u8], sizes: &[usize]) -> Result<HookMessage, HookError> {
    let mut reader = HookReader::new(agent);
    let mut fed = Ok(());
    pieces(message, sizes, |piece| {
        if fed.is_ok() {
            fed = reader.feed(piece);
        }
    });
    fed?;
    reader.finish()
}

fn said(content: &Content) -> String {
    let text = content.text().map(String::from_utf8_lossy);
    text.map_or_else(|| format!("{content:?}"), |text| format!("{text:?}"))
}

fn head(tool: &ToolUse) -> String {
    let id = tool.id.as_ref().map_or("-".into(), RawText::display);
    let server = tool.server.as_ref().map(|server| format!(" of {server}"));
    format!("{id}: {}{}", tool.tool, server.unwrap_or_default())
}

/// Writes what is claimed.
fn written(message: &HookMessage) -> String {
    match message {
        HookMessage::Before { tool, .. } => {
            let mut text = format!("before {}\n", head(tool));
            let json = String::from_utf8_lossy(&tool.arguments.json);
            let more = if tool.arguments.is_whole { "" } else { "…" };
            writeln!(text, "  {json}{more}").unwrap();
            let intent = tool.intent();
            for (what, list) in [("commands", &intent.commands), ("paths", &intent.paths)] {
                if !list.is_empty() {
                    let list: Vec<String> = list.iter().map(RawText::display).collect();
                    writeln!(text, "  {what}: {}", list.join(", ")).unwrap();
                }
            }
            text
        }
        HookMessage::After { tool, result } => {
            let content = result.content.as_ref().map_or("too long".into(), said);
            format!("after {}, {} bytes {content}\n", head(tool), result.bytes)
        }
        HookMessage::Prompt(prompt) => format!("prompt {}\n", said(prompt)),
        HookMessage::Other => "nothing\n".to_owned(),
    }
}

#[test]
fn messages_of_agents_become_one_form() {
    let all = all();
    assert!(all.len() > 15, "{}", all.len());
    for golden in all {
        let message = read(golden.agent, &golden.message, &[usize::MAX]);
        let message = message.unwrap_or_else(|error| panic!("{}: {error}", golden.name));
        assert_eq!(written(&message), golden.claims, "{}", golden.name);
        let cut = read(golden.agent, &golden.message, &[1, 5, 3]);
        assert_eq!(cut, Ok(message), "{}", golden.name);
    }
}

/// What no agent writes is an error that says what is wrong; what it means is never guessed.
#[test]
fn what_no_agent_writes_is_refused() {
    let before = r#""hook_event_name":"PreToolUse""#;
    let call = format!(r#"{before},"tool_name":"Read""#);
    let long = "x".repeat(200);
    for (text, error) in [
        (String::new(), HookError::NotJson),
        ("[]".into(), HookError::NotJson),
        ("{".into(), HookError::NotJson),
        (format!("{{{call}}} {{}}"), HookError::NotJson),
        ("{}".into(), HookError::UnknownMoment("".into())),
        (
            r#"{"hook_event_name":"beforeShellExecution"}"#.into(),
            HookError::UnknownMoment("beforeShellExecution".into()),
        ),
        (
            r#"{"hook_event_name":1}"#.into(),
            HookError::Member("hook_event_name"),
        ),
        (
            format!(r#"{{"hook_event_name":"Stop",{before}}}"#),
            HookError::Member("hook_event_name"),
        ),
        (format!("{{{before}}}"), HookError::Member("tool_name")),
        (
            format!(r#"{{{before},"tool_name":"{long}"}}"#),
            HookError::Member("tool_name"),
        ),
        // One reader would see `Read`, another one `Bash`.
        (
            format!(r#"{{{call},"tool_name":"Bash"}}"#),
            HookError::Member("tool_name"),
        ),
        (
            format!(r#"{{{call},"tool_input":{{}},"tool_input":{{"a":1}}}}"#),
            HookError::Member("tool_input"),
        ),
        (
            r#"{"hook_event_name":"UserPromptSubmit"}"#.into(),
            HookError::Member("prompt"),
        ),
    ] {
        let found = read(HookAgent::Claude, text.as_bytes(), &[usize::MAX]);
        assert_eq!(found, Err(error), "{text}");
    }
    for broken in [&b"\xff"[..], b"\xed\xa0\x80", b"\xc0\xaf"] {
        for (front, end) in [
            (format!(r#"{{{before},"tool_name":""#), r#""}"#),
            (format!(r#"{{{call},"tool_use_id":""#), r#""}"#),
            (format!(r#"{{{call},"tool_input":{{"command":""#), r#""}}"#),
            (format!(r#"{{{call},"tool_input":{{""#), r#"":1}}"#),
        ] {
            let text = [front.as_bytes(), broken, end.as_bytes()].concat();
            let found = read(HookAgent::Claude, &text, &[usize::MAX]);
            assert_eq!(found, Err(HookError::NotText), "{front}");
        }
    }
    // The same without what is broken is read.
    let fine = format!(r#"{{{call},"tool_input":{{"command":"é"}}}}"#);
    assert!(read(HookAgent::Claude, fine.as_bytes(), &[usize::MAX]).is_ok());
}

/// However much is said, a bounded part is kept, and what rules cannot look at is marked.
#[test]
fn large_arguments_are_cut_and_say_so() {
    let read = |arguments: &str| {
        let text = format!(
            r#"{{"hook_event_name":"PreToolUse","tool_name":"Write","tool_input":{arguments}}}"#
        );
        match read(HookAgent::Claude, text.as_bytes(), &[usize::MAX]) {
            Ok(HookMessage::Before { tool, .. }) => tool.arguments,
            other => panic!("{other:?}"),
        }
    };
    // A text that is longer than any of a model's call, after one and before another.
    let long = "y".repeat((1 << 20) + 1);
    let text = read(&format!(r#"{{"z":"last","content":"{long}","a":"x"}}"#));
    assert!(!text.is_whole && text.content().is_none());
    assert_eq!(text.json, br#"{"a":"x","content":"#);
    let many: Vec<String> = (0..100_000).map(|number| number.to_string()).collect();
    let many = read(&format!(r#"{{"a":[{}]}}"#, many.join(",")));
    assert!(!many.is_whole && many.json.len() < 200_000);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep = read(&format!(r#"{{"a":{deep}}}"#));
    assert!(!deep.is_whole && deep.json.len() < 200);
    // What agents write of a large file is whole.
    let large = "y".repeat(900 << 10);
    let large = read(&format!(r#"{{"a":"x","content":"{large}"}}"#));
    assert!(large.is_whole && large.content().is_some());
}

#[test]
fn a_message_has_an_end() {
    let mut reader = HookReader::new(HookAgent::Claude);
    let piece = vec![b' '; 1 << 20];
    let mut fed = 0_u64;
    while reader.feed(&piece).is_ok() {
        fed += 1 << 20;
    }
    assert_eq!(fed, BODY_BYTES_MAX);
}

/// Whatever is sent, it is read without a failure, however it is cut, and what is read stays in bounds.
#[test]
fn fuzz_hook_messages() {
    let samples = all().into_iter().map(|golden| golden.message);
    let target = Target {
        name: "hook-messages",
        samples: samples.collect(),
        words: &[
            b"\"hook_event_name\":",
            b"\"PreToolUse\"",
            b"\"tool_input\":{",
            b"\"tool_use_id\":",
            b"mcp__",
            b"__",
            b"\\ud83d",
            b"\xff",
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b",",
            b"null",
        ],
        tries: TRIES / 4,
    };
    stockade_fuzz::target(&target, |message| {
        for agent in HookAgent::ALL {
            let whole = read(agent, message, &[usize::MAX]);
            assert_eq!(whole, read(agent, message, &[1, 7, 2]));
            if let Ok(HookMessage::Before { tool, .. } | HookMessage::After { tool, .. }) = whole {
                assert!(tool.arguments.json.len() <= 8 * message.len() + 1024);
                assert!(!tool.tool.as_bytes().is_empty());
                assert!(std::str::from_utf8(tool.tool.as_bytes()).is_ok());
                drop(tool.intent());
            }
        }
    });
}
