//! What a person reads of a tool call.

use stockade_policy::{Approvals, HostSets, Origin, Request, Source, ToolRequest, load};
use stockade_types::{ApprovalId, DecisionId, Subject, UnixMillis};

use crate::{Shown, question::Question};

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
    Question {
        id: ApprovalId::from_random(7),
        agent: "claude".to_owned(),
        workspace: "/home/u/shop".to_owned(),
        request,
        decision,
        decision_id: DecisionId::new(1),
        revision: policy.revision(),
        intent: None,
        lasting: None,
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
        !text.contains(&token) && text.contains("a='[github-token:"),
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
