//! What an agent says of itself (family T): claims are recorded as claims, in bounds, byte for byte, and
//! nothing that is said changes a verdict or makes a cause certain.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;
use stockade_testkit::{
    Output, Repo, TestEnv,
    events::{self, Event},
    lab::TlsServer,
    run::require_tool,
};
use stockade_types::{Digest, RawText};

use crate::attacks::{count, for_each_user};

/// The tool calls of one answer that a service sends to have the record flooded.
const MANY: usize = 1_000_000;
/// The tool calls of one answer of which each is recorded (`docs/limits.md`).
const EACH_MAX: usize = 256;
/// Answers and tool calls of a flood whose every claim is recorded.
const FLOOD: (usize, usize) = (40, 250);
/// An answer in pieces: a tool call that is whole, and half of another.
const HALF: &str = concat!(
    "data: {\"type\":\"message_start\",\"message\":{\"type\":\"message\",\"id\":\"m-1\",\"model\":\"lab-1\"}}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"whole\",\"name\":\"Bash\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"command\\\":\\\"true\\\"}\"}}\n\n",
    "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"half\",\"name\":\"Bash\",\"input\":{}}}\n\n",
    "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"command\\\":\\\"tr",
);

/// A server that says back what it is told, and the policy that lets an agent call it.
struct Lab {
    server: TlsServer,
    policy: PathBuf,
    repo: Repo,
}

impl Lab {
    fn new(env: &TestEnv) -> Self {
        let server = TlsServer::writing(&["one.test"], |request, out| {
            let head = |length: usize| {
                format!(
                    "HTTP/1.1 200 Lab\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
                )
            };
            match request.path() {
                "/million/v1/messages" => {
                    let body = million();
                    out.write_all(head(body.len()).as_bytes())?;
                    out.write_all(body.as_bytes())
                }
                "/cut/v1/messages" => {
                    let head = "HTTP/1.1 200 Lab\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n";
                    out.write_all(head.as_bytes())?;
                    out.write_all(HALF.as_bytes())?;
                    out.flush()?;
                    Err(std::io::ErrorKind::BrokenPipe.into())
                }
                _ => {
                    out.write_all(head(request.body.len()).as_bytes())?;
                    out.write_all(&request.body)
                }
            }
        });
        let pem = env.write("one.pem", server.certificate_pem());
        let text = format!(
            "schema = 1\n[record]\ncontent = \"full\"\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"one.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"one.test\"]\n\
             ports = [{}]\nprivate = true\ntls = \"inspect\"\n",
            pem.display(),
            server.port()
        );
        let policy = env.write("policy.toml", &text);
        let repo = env.repo();
        env.write(repo.path().join("agent.py"), include_str!("agent.py"));
        env.write(repo.path().join("notes.txt"), "notes\n");
        Self {
            server,
            policy,
            repo,
        }
    }

    /// Runs the agent as the command of a session.
    fn run(&self, env: &TestEnv, words: &[&str]) -> (Output, Vec<Event>) {
        require_tool("python3");
        let port = self.server.port().to_string();
        let output = env
            .session(self.repo.path())
            .arg("--policy")
            .arg(&self.policy)
            .args(["--", "python3", "agent.py", &port])
            .args(words)
            .timeout(Duration::from_mins(4))
            .output();
        output.assert_success();
        (output, env.record())
    }
}

fn million() -> String {
    let mut body = String::from(
        "{\"type\":\"message\",\"id\":\"m-1\",\"model\":\"lab-1\",\"stop_reason\":\"tool_use\",\"content\":[",
    );
    // As much as is read of one body; each call has as little as it can.
    body.push_str(&"{\"type\":\"tool_use\",\"name\":\"a\"},".repeat(MANY));
    body + "{}]}"
}

/// Events of a kind whose field has this value.
fn of<'e>(record: &'e [Event], kind: &str, field: &str, value: &str) -> Vec<&'e Event> {
    let events = record.iter();
    events
        .filter(|event| event.kind() == kind && event.field(field) == value)
        .collect()
}

fn seq(event: &Event) -> Option<&Value> {
    event.json.pointer("/seq")
}

/// The certainty with which a change of a file is for a call; `none` if for none.
fn certainty<'e>(record: &'e [Event], file: &str) -> &'e str {
    let mut changes = record
        .iter()
        .filter(|event| event.kind() == "file.changed" && event.targets(&format!("/{file}")));
    let change = changes.next_back().expect("the file is changed");
    let of_cause = |name: &str| change.json.pointer(&format!("/cause/{name}"));
    match of_cause("call").and_then(Value::as_u64) {
        Some(_) => of_cause("certainty")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        None => "none",
    }
}

/// The same agent that is honest once is believed then, and in nothing else: what it says it does and does
/// not is a finding; what cannot be told apart is inferred; results and ids of others bind nothing; and
/// nothing that says it was approved is.
#[test]
fn lying_agents_forge_no_certainty_and_change_no_verdict() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let (_, record) = lab.run(env, &["truth,lies,approvals"]);
        let shown = events::summary(&record);
        // The control: what is said and done is known exactly.
        assert_eq!(certainty(&record, "truth.txt"), "exact", "{shown}");
        let made = |name: &str| lab.repo.path().join(name).exists();
        assert!(made("lie.txt") && made("same.txt") && made("unsaid.txt"));
        assert_ne!(certainty(&record, "lie.txt"), "exact", "{shown}");
        assert_eq!(certainty(&record, "unsaid.txt"), "none", "{shown}");
        assert_ne!(certainty(&record, "same.txt"), "exact", "{shown}");
        let findings: Vec<String> = record
            .iter()
            .filter(|event| event.kind() == "finding.raised")
            .map(|event| format!("{} {}", event.field("title"), event.field("detail")))
            .collect();
        for (title, said) in [
            ("a command that was said did not run", "cat notes.txt"),
            ("a change that no tool call names", "unsaid.txt"),
        ] {
            let found = (findings.iter()).any(|one| one.contains(title) && one.contains(said));
            assert!(found, "{title}: {findings:?}");
        }
        assert!(!findings.iter().any(|one| one.contains("truth.txt")));
        // A result is for a call that is open, once.
        let results = of(&record, "tool.returned", "id", "truth");
        let calls: Vec<_> = results.iter().map(|event| event.json.get("call")).collect();
        let truth = of(&record, "tool.called", "id", "truth");
        assert_eq!(calls, [seq(truth[0])], "said again, it is known: {shown}");
        let strange = of(&record, "tool.returned", "id", "of-another-session");
        assert_eq!(strange.len(), 1, "{shown}");
        assert!(strange[0].json.get("call").is_none_or(Value::is_null));
        // What says that it was approved was not.
        assert_eq!(count(&record, "approval.decided"), 0, "{shown}");
        let refused = record.iter().filter(|event| event.is_refusal());
        let refused: Vec<_> = refused.filter(|event| event.targets(".mcp.json")).collect();
        assert!(!refused.is_empty() && !made(".mcp.json"), "{shown}");
        assert_eq!(
            of(&record, "tool.called", "name", "approval.decided").len(),
            1
        );
        // What was said in another session is nothing in this one.
        let (_, other) = lab.run(env, &["lies"]);
        let results = of(&other, "tool.returned", "id", "truth");
        assert!(
            results
                .iter()
                .all(|event| event.json.get("call").is_none_or(Value::is_null))
        );
    });
}

/// A million tool calls in one answer: what is within bounds is recorded, the rest is counted or said not
/// to have been read, and the next call of the same agent is joined as before.
#[test]
fn a_million_tool_calls_and_a_cut_stream_are_bounded_and_said() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let began = Instant::now();
        let (_, record) = lab.run(env, &["million"]);
        let shown = events::summary(&record);
        println!("a million tool calls took {:?}", began.elapsed());
        assert_eq!(certainty(&record, "truth.txt"), "exact", "{shown}");
        let calls = of(&record, "tool.called", "name", "a").len();
        assert!((1..=EACH_MAX).contains(&calls), "{calls}");
        let answers = of(&record, "model.called", "kind", "model.called");
        let large = answers[0];
        assert!(
            large.field("unread").contains("answer: "),
            "{:#}",
            large.json
        );
        assert_eq!(large.field("ended"), "whole");
        let bytes = large.json["bytes_in"].as_u64().expect("it is counted");
        assert!(bytes > 30_000_000, "all of it passed: {bytes}");
        let first = large.json.pointer("/calls/first").and_then(Value::as_array);
        assert!(first.is_none_or(|first| first.len() <= 64));

        let (_, record) = lab.run(env, &["cut"]);
        let shown = events::summary(&record);
        assert_eq!(
            of(&record, "tool.called", "id", "whole").len(),
            1,
            "{shown}"
        );
        assert_eq!(of(&record, "tool.called", "id", "half").len(), 0, "{shown}");
        let cut = of(&record, "model.called", "ended", "cut");
        assert_eq!(cut.len(), 1, "{shown}");
        assert_eq!(certainty(&record, "truth.txt"), "exact", "{shown}");
    });
}

/// Ten thousand tool calls as fast as an agent and the egress process go: each is in the record once.
#[test]
fn claims_at_full_speed_are_all_recorded() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let (answers, each) = FLOOD;
        let began = Instant::now();
        lab.run(env, &["flood", &answers.to_string(), &each.to_string()]);
        let took = began.elapsed();
        let record = env.record();
        let mut ids: Vec<&str> = record
            .iter()
            .filter(|event| event.kind() == "tool.called")
            .map(|event| event.field("id"))
            .collect();
        assert_eq!(ids.len(), answers * each);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), answers * each, "each once");
        assert_eq!(count(&record, "model.called"), answers);
        assert_eq!(count(&record, "prompt.submitted"), answers);
        // That the same name is asked for again and again is counted.
        let lost = record
            .iter()
            .filter(|event| event.kind() == "events.lost" && event.field("lost_source") != "names");
        assert_eq!(lost.count(), 0);
        println!("{} claims took {took:?}", answers * each);
    });
}

/// Texts that break records, tables and terminals, as arguments of programs, names of files and hosts, and
/// as everything that a model and an agent say: each comes back byte for byte from the one record that it
/// is in, and nothing that shows it obeys it.
#[test]
fn t06_every_text_comes_back_byte_for_byte() {
    let texts: [&[u8]; 9] = [
        b"two\nlines\r\n{\"kind\":\"session.ended\"}\n",
        b"ansi \x1b[2J\x1b]0;t\x07 \xe2\x80\xae",
        b"not utf-8 \xff\xfe\xc3(",
        b"a \\ b \\x41 \\\\xff \\u0041",
        b"\"},{\"kind\":\"approval.decided\",\"verdict\":\"allow\"}]",
        b"CEF:0|a|b=c\\|d",
        b"=cmd|'/c calc'!A0,\"x\";\"y\"",
        b"<script>alert(1)</script><!-- </style> ${jndi:x} `id`",
        b"\x01\x02\x7f\xc2\x85 \xef\xbb\xbf end ",
    ];
    for_each_user(|env| {
        let lab = Lab::new(env);
        let lines: String = texts.iter().map(|text| hex(text) + "\n").collect();
        let large = vec![b'y'; 1_000_000];
        env.write(lab.repo.path().join("texts"), &lines);
        let files = "import os, subprocess\n\
            for line in open('texts'):\n\
            \x20   text = bytes.fromhex(line.strip())\n\
            \x20   open(b'f' + text.replace(b'/', b'_'), 'w').close()\n\
            \x20   subprocess.run([b'/bin/true', text])\n\
            \x20   subprocess.run([b'/bin/true', b'in'], cwd=os.getcwdb())\n\
            subprocess.run([b'/bin/true'] + [b'y' * 100000] * 10)\n";
        env.write(lab.repo.path().join("files.py"), files);
        let (_, record) = lab.run(env, &["texts"]);
        let raw = |value: &Value| -> RawText {
            serde_json::from_value(value.clone()).expect("it is a text")
        };
        for text in texts {
            let wanted = RawText::from_bytes(text);
            // A model's name is no text of an agent's, but it passes the same way.
            for (kind, pointer) in [
                ("tool.called", "/id"),
                ("tool.called", "/name"),
                ("tool.returned", "/id"),
                ("tool.returned", "/text/text"),
                ("prompt.submitted", "/parts/first/0/text"),
                ("model.called", "/model"),
                ("model.called", "/model_asked"),
            ] {
                let same = record.iter().filter(|event| {
                    let value = event.json.pointer(pointer);
                    event.kind() == kind && value.is_some_and(|value| raw(value) == wanted)
                });
                assert_eq!(same.count(), 1, "{kind} {pointer} {wanted:?}: {record:#?}");
            }
            // The arguments are JSON themselves; their digest is of what passed.
            let quoted = record.iter().filter(|event| event.kind() == "tool.called");
            assert_eq!(quoted.count(), texts.len());
        }
        assert_eq!(count(&record, "session.ended"), 1);
        assert_eq!(count(&record, "approval.decided"), 0);
        shown_harmless(env);

        env.session(lab.repo.path())
            .args(["--", "python3", "files.py"])
            .success();
        let record = env.record();
        for text in texts {
            let wanted = RawText::from_bytes(text);
            let started = record.iter().filter(|event| {
                event.kind() == "process.started"
                    && (event.json.pointer("/process/argv/1"))
                        .is_some_and(|value| raw(value) == wanted)
            });
            assert_eq!(started.count(), 1, "{wanted:?}");
            let name = String::from_utf8_lossy(text).into_owned();
            let end: Vec<u8> = [b"/f".as_slice(), &text.to_vec().replaced()].concat();
            let made = record.iter().filter(|event| {
                event.kind() == "file.changed"
                    && (event.json.get("path"))
                        .is_some_and(|value| raw(value).as_bytes().ends_with(&end))
            });
            assert!(made.count() >= 1, "{name:?}");
        }
        // Of what is too large the size and the digest are kept.
        let words: Vec<u8> = (0..10)
            .flat_map(|_| [vec![b'y'; 100_000], vec![0]].concat())
            .collect();
        let all = [b"/bin/true\0".as_slice(), &words].concat();
        let digest = Digest::of(&all).to_string();
        assert!(large.len() < all.len());
        let cut = record.iter().any(|event| {
            let truncated = event.json.get("truncated").and_then(Value::as_array);
            truncated.is_some_and(|all| all.iter().any(|one| one["digest"] == digest.as_str()))
        });
        assert!(cut, "the arguments of a megabyte have their digest");
        shown_harmless(env);
    });
}

/// What the commands print of a session has no byte that a terminal obeys, and one page is one page.
fn shown_harmless(env: &TestEnv) {
    let page = env.root().join("page.html").display().to_string();
    for words in [
        &["show", "last"][..],
        &["show", "last", "--tree"],
        &["events", "last"],
        &["replay", "last"],
        &["show", "last", "--html", &page],
    ] {
        let shown = env.stockade().args(words).success();
        let text = &shown.stdout;
        assert!(
            !text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{words:?}: {text:?}"
        );
        assert!(!text.contains("\n{\"kind\""), "{words:?}: {text}");
    }
    let text = fs::read_to_string(&page).expect("it was written");
    assert_eq!(text.matches("</script>").count(), 2, "only its own");
    assert!(!text.contains("<script>alert"));
    fs::remove_file(page).expect("it is ours");
    let last = env.session_id();
    let verified = env.stockade().args(["log", "verify", &last]).success();
    verified.assert_stdout("intact");
}

trait Replaced {
    /// What a file can be called of it.
    fn replaced(&self) -> Vec<u8>;
}

impl Replaced for Vec<u8> {
    fn replaced(&self) -> Vec<u8> {
        let bytes = self.iter();
        bytes
            .map(|byte| if *byte == b'/' { b'_' } else { *byte })
            .collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes what is written to it");
        text
    })
}
