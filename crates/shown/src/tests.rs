//! What a person reads of a tool call.

use std::borrow::Cow;

use stockade_policy::{
    Approvals, ExecRequest, HostSets, Origin, Request, Scope, Source, ToolRequest, load,
};
use stockade_types::{RawText, Subject, UnixMillis};

use crate::{CanonicalQuestion, Grounds, Matter, Shown};

fn shown(tool: &str, server: Option<&str>, arguments: &str) -> Shown {
    let source = Source {
        origin: Origin::User,
        name: "user.toml".to_owned(),
        text:
            "schema = 1\n[[ask]]\nid = \"t\"\nwhat = \"tool\"\ntools = [\"*\"]\nreason = \"look\"\n"
                .to_owned(),
    };
    let policy = load(&[source], &HostSets::default()).unwrap();
    let server = server.map(str::as_bytes);
    let request = ToolRequest::new(
        tool.as_bytes(),
        server,
        arguments.as_bytes(),
        Subject::default(),
    );
    let request = Request::Tool(request);
    let decision = policy.decide(&request, &Approvals::none());
    Matter {
        request: &request,
        grounds: Cow::Owned(Grounds::of(&decision)),
        agent: "claude",
        intent: None,
        asked: UnixMillis(0),
        expires: UnixMillis(1),
    }
    .shown()
}

fn rows(shown: &Shown) -> String {
    let lines = shown.rows.iter();
    let lines = lines.map(|row| format!("{:<9} {}\n", row.label, row.text));
    lines.collect()
}

#[test]
fn a_tool_call_is_shown_with_what_it_is_called_with() {
    let shown = shown(
        "Bash",
        None,
        r#"{"command":"git push\norigin","timeout":5}"#,
    );
    assert_eq!(shown.title, "claude wants to");
    let expected = "\
use tool  Bash
with      command='git push↵origin'
          timeout=5
by        a process that is gone
why asked rule t (user): look
once      one call of this tool with exactly these arguments; what it does is judged by itself
session   this tool, with any arguments that the same rules ask about
";
    assert_eq!(rows(&shown), expected);
    assert!(
        shown.details.is_empty() && shown.warnings.is_empty(),
        "{shown:?}"
    );
}

#[test]
fn nothing_of_a_tool_call_hides_or_is_left_out_silently() {
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    let long = "x".repeat(5_000);
    let arguments = format!(
        "{{\"a\":\"{token}\",\"b\":\"\\u202e\\u001b[2J\",\"c\":\"{long}\",\"d\":1,\"e\":2,\"f\":3,\"g\":4,\"g\":5}}"
    );
    let shown = shown("run\u{200b}", Some("git\u{202e}hub"), &arguments);
    let text = rows(&shown);
    assert!(text.contains("use tool  run\\u{200b}"), "{text}");
    assert!(
        text.contains("of        MCP server git\\u{202e}hub"),
        "{text}"
    );
    assert!(
        !text.contains(&token) && text.contains("a='[github-token]"),
        "{text}"
    );
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text}");
    assert!(text.contains("2 more arguments; [?] lists all"), "{text}");
    let cut = text.lines().find(|line| line.contains("c=x")).unwrap();
    assert!(cut.ends_with('…') && cut.chars().count() < 420, "{cut}");
    // [?] has what the box leaves out, whole.
    let details: Vec<&str> = shown.details.iter().map(|row| row.text.as_str()).collect();
    assert!(details.contains(&format!("c={long}").as_str()));
    assert!(
        details.contains(&"g=4") && details.contains(&"g=5"),
        "{details:?}"
    );
    let warnings = shown.warnings.join("\n");
    assert!(
        warnings.contains("two values") && warnings.contains("cannot be seen"),
        "{warnings}"
    );
}

fn question(command: &str) -> CanonicalQuestion {
    let argv: Vec<RawText> = command.split(' ').map(RawText::from).collect();
    let request = Request::Exec(ExecRequest {
        program: RawText::from("/usr/bin/git"),
        invoked_as: RawText::from("/usr/bin/git"),
        argv,
        cwd: RawText::from("/w"),
        ..ExecRequest::default()
    });
    Matter {
        request: &request,
        grounds: Cow::Owned(Grounds {
            rule: Some("push".parse().unwrap()),
            origin: Some(Origin::Organisation),
            reason: "a push leaves the machine".to_owned(),
            nearest_allow: None,
            private: false,
            scope_max: Some(Scope::Session),
            review: None,
        }),
        agent: "codex",
        intent: Some("to share the work"),
        asked: UnixMillis(0),
        expires: UnixMillis(300_000),
    }
    .canonical()
}

/// Whoever has the question in its canonical form makes this text; votes are for its digest. A change of
/// the text is a new version of the form.
#[test]
fn the_text_is_made_of_the_canonical_question_alone() {
    let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
    let question = question(&format!("git push https://u:{token}@good.test/x main"));
    let sent = serde_json::to_vec(&question).unwrap();
    let read: CanonicalQuestion = serde_json::from_slice(&sent).unwrap();
    assert_eq!(read, question);
    let shown = read.shown();
    assert_eq!(
        shown.to_string(),
        "codex wants to
  run       git push 'https://u:[github-token]@good.test/x' main
  program   /usr/bin/git (content not hashed)
  in        /w
  by        a process that is gone
  why asked rule push (organisation): a push leaves the machine
  agent says\"to share the work\" (its own words, not checked)
  once      exactly this command, one time; what it then does is judged by itself
"
    );
    assert_eq!(
        shown.digest().to_string(),
        "05d0c6e0fa21b73f7f978d3e09e4b06a887f4b0c205e4e359059d298198f4608",
        "the digest of the text"
    );
    assert_eq!(read.request_digest(), read.request.request().digest());
}

#[test]
fn every_part_of_the_text_is_in_its_digest() {
    let shown = question("git push").shown();
    let mut others = Vec::new();
    let mut change = |edit: &dyn Fn(&mut Shown)| {
        let mut other = shown.clone();
        edit(&mut other);
        others.push(other.digest());
    };
    change(&|shown| shown.title.push('x'));
    change(&|shown| shown.rows[0].label.push('x'));
    change(&|shown| shown.rows[0].text.push('x'));
    change(&|shown| shown.warnings.push(String::new()));
    change(&|shown| shown.details.extend(shown.rows.last().cloned()));
    change(&|shown| {
        let last = shown.rows.pop();
        shown.details.extend(last);
    });
    change(&|shown| shown.rows.swap(0, 1));
    others.push(shown.digest());
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count);
}

#[test]
fn a_question_of_another_form_is_not_read() {
    let value = serde_json::to_value(question("git push")).unwrap();
    assert!(serde_json::from_value::<CanonicalQuestion>(value.clone()).is_ok());
    for (place, other) in [
        ("version", serde_json::json!(2)),
        ("extra", serde_json::json!(1)),
        ("agent", serde_json::Value::Null),
    ] {
        let mut changed = value.clone();
        changed[place] = other;
        assert!(
            serde_json::from_value::<CanonicalQuestion>(changed).is_err(),
            "{place}"
        );
    }
    let mut changed = value;
    changed["grounds"]["extra"] = 1.into();
    assert!(serde_json::from_value::<CanonicalQuestion>(changed).is_err());
}
