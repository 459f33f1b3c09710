use jiff::tz::TimeZone;
use stockade_event::{
    Counts, Envelope, Event, HostedToolSeen, Listed, ModelUsage, SCHEMA_VERSION, SessionOutcome,
    ToolCallSeen,
};
use stockade_types::{
    Access, ApprovalId, AskMode, CallEnd, ClaimSource, DecisionId, DecisionRecord, Digest,
    ModelApi, ModelProvider, Person, ProcessId, RawText, RequestKind, SessionId, Severity, Subject,
    Target, Tier, UnixMillis, Verdict, WorkspaceMode,
};

use stockade_event::tree::Wanted;

use super::{Paint, render, timeline::Timeline};

fn session() -> SessionId {
    SessionId::from_random(0x3f2a_0000_0000_0001)
}

fn subject(pid: u32, argv: &[&str], ancestry: &[&str]) -> Subject {
    Subject {
        id: Some(ProcessId { pid, start: 1 }),
        exe: RawText::from(format!("/usr/bin/{}", argv[0]).as_str()),
        argv: argv.iter().map(|word| RawText::from(*word)).collect(),
        cwd: "/w".into(),
        ancestry: ancestry.iter().map(|line| RawText::from(*line)).collect(),
    }
}

fn decision(verdict: Verdict, host: &str, subject: Subject) -> DecisionRecord {
    DecisionRecord {
        decision: DecisionId::new(1),
        verdict,
        kind: RequestKind::Net,
        subject,
        target: Target {
            host: Some(host.to_owned()),
            port: Some(443),
            ..Target::default()
        },
        rule: Some("paste-sites".parse().unwrap()),
        answered: None,
        reason: "data leaves the company".to_owned(),
        failed_condition: None,
        nearest_allow: None,
        remedy: String::new(),
        policy_revision: Digest::of(b"p"),
        session: session(),
        time: UnixMillis(0),
    }
}

/// Adds events one second apart; those in `scopes` get a scope.
fn rendered(events: Vec<(Option<&str>, Event)>) -> String {
    let mut timeline = Timeline::default();
    for ((scope, event), number) in events.into_iter().zip(0_u64..) {
        timeline.add(
            &Envelope {
                v: SCHEMA_VERSION,
                session: session(),
                seq: number + 1,
                time_unix_ns: (1_700_000_000 + number) * 1_000_000_000,
                mono_ns: 0,
                source: "supervisor".to_owned(),
                process: None,
                scope: scope.map(str::to_owned),
                cause: None,
                truncated: vec![],
                event,
            },
            Wanted::Whole,
        );
    }
    timeline.finish();
    render(&timeline, &TimeZone::UTC, Paint::new(false), Some(80)).join("\n")
}

fn started(process: Subject) -> Event {
    Event::ProcessStarted {
        process,
        digest: None,
        interpreter: None,
    }
}

fn net(verdict: Verdict, host: &str, by: Subject) -> Event {
    let decision = decision(verdict, host, by);
    // What is allowed is dialled.
    let address = (verdict == Verdict::Allow).then(|| "192.0.2.7".parse().unwrap());
    Event::ConnectionDecided {
        decision,
        address,
        sni: None,
        detail: None,
    }
}

fn begun() -> Vec<(Option<&'static str>, Event)> {
    vec![
        (
            None,
            Event::SessionStarted {
                name: None,
                command: vec!["codex".into(), "exec".into()],
                workspace: "/w".into(),
                mode: WorkspaceMode::Direct,
                tier: Tier::Native,
                preset: "codex".to_owned(),
                ask: AskMode::Tty,
                uid: 1000,
                version: "0.1.0".to_owned(),
                policy_revision: Digest::of(b"p"),
            },
        ),
        (
            None,
            Event::GuaranteeStated {
                guarantee: "disk".to_owned(),
                holds: false,
                how: String::new(),
                missing: Some("no cgroup v2".to_owned()),
                waiver: None,
            },
        ),
    ]
}

fn sample(scope: Option<&'static str>) -> Vec<(Option<&'static str>, Event)> {
    let test = subject(10, &["cargo", "test"], &["codex exec"]);
    let child = subject(11, &["rustc", "x.rs"], &["cargo test", "codex exec"]);
    let changed = |access: Access| Event::FileChanged {
        path: "/w/src/cart.rs".into(),
        access,
        by: child.clone(),
        decision: None,
    };
    let approval = ApprovalId::from_random(1);
    let mut events = begun();
    events.extend([
        (scope, started(test.clone())),
        (scope, started(child.clone())),
        (scope, changed(Access::Write)),
        (scope, changed(Access::Write)),
        (scope, changed(Access::Create)),
        (scope, net(Verdict::Allow, "registry.test", child.clone())),
        (scope, net(Verdict::Deny, "paste.test", child.clone())),
        (scope, net(Verdict::Deny, "paste.test", child.clone())),
        (
            scope,
            Event::ApprovalRequested {
                approval: approval.clone(),
                decision: decision(Verdict::Ask, "new.test", child.clone()),
                shown: String::new(),
                request_digest: Digest::of(b"r"),
                expires: UnixMillis(0),
            },
        ),
        (
            None,
            Event::ApprovalDecided {
                approval,
                verdict: Verdict::Deny,
                scope: None,
                by: Person::Terminal.into(),
                reason: Some("use the mirror".to_owned()),
                statement: None,
            },
        ),
        (
            None,
            Event::SessionEnded {
                outcome: SessionOutcome::Exited { code: 0 },
                duration_ms: 14_000,
                counts: Counts::default(),
                own_usage: None,
            },
        ),
    ]);
    events
}

const EXPECTED: &str = "\
22:13:20 ▸ session 3f2a000000000001: codex exec in /w (native, profile codex)
22:13:21 ! not held here: disk (no cgroup v2)
22:13:22   ▸ run  cargo test → 2 processes
22:13:24     ✎ src/cart.rs 2×
22:13:26     ✎ src/cart.rs (create)
22:13:27     → net  registry.test:443
22:13:28     ✖ net  paste.test:443 denied (paste-sites) ← rustc ← cargo ← codex 2×
               data leaves the company
22:13:30     ? net  new.test:443 (paste-sites) → denied by terminal: use the mirror
22:13:32 ■ the command exited 0";

#[test]
fn runs_are_grouped_under_the_command_of_the_agent() {
    assert_eq!(rendered(sample(Some("c-1"))), EXPECTED);
}

#[test]
fn without_scopes_the_parents_group_them() {
    assert_eq!(rendered(sample(None)), EXPECTED);
}

#[test]
fn hostile_bytes_stay_inert() {
    let hostile = "x\u{1b}[2J\n\u{202e}";
    let by = subject(10, &[hostile, hostile], &[hostile, hostile, "codex"]);
    let mut denied = decision(Verdict::Deny, hostile, by.clone());
    denied.reason = hostile.to_owned();
    let text = rendered(vec![
        (Some(hostile), Event::NameDecided { decision: denied }),
        (
            Some(hostile),
            Event::FileChanged {
                path: hostile.into(),
                access: Access::Mode,
                by,
                decision: None,
            },
        ),
        (
            None,
            Event::FindingRaised {
                severity: Severity::High,
                title: hostile.to_owned(),
                detail: hostile.to_owned(),
                decisions: vec![],
            },
        ),
    ]);
    assert!(text.contains("\\u{1b}[2J"), "{text}");
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{202e}'),
        "{text:?}"
    );
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn a_flood_in_one_block_is_bounded_and_counted() {
    let by = subject(10, &["sh"], &["codex"]);
    let events = (0..500)
        .map(|number| {
            (
                Some("c-1"),
                Event::FileChanged {
                    path: format!("/w/{number}").as_str().into(),
                    access: Access::Write,
                    by: by.clone(),
                    decision: None,
                },
            )
        })
        .collect();
    let text = rendered(events);
    assert_eq!(text.lines().count(), 102);
    assert!(text.ends_with("… and 400 more"), "{text}");
}

#[test]
fn what_git_keeps_is_one_line_and_a_connection_says_how_much() {
    let git = subject(10, &["git", "fetch"], &["codex exec"]);
    let changed = |path: &str| Event::FileChanged {
        path: path.into(),
        access: Access::Create,
        by: git.clone(),
        decision: None,
    };
    let closed = Event::ConnectionClosed {
        host: "git.test".to_owned(),
        port: 443,
        decision: decision(Verdict::Allow, "git.test", git.clone()).decision,
        bytes_out: 1_300,
        bytes_in: 4_000_000,
        duration_ms: 5,
        failed: None,
    };
    let mut events = begun();
    let scope = Some("c-1");
    events.extend([
        (scope, started(git.clone())),
        (scope, net(Verdict::Allow, "git.test", git.clone())),
        (scope, changed("/w/.git/index.lock")),
        (scope, changed("/w/.git/objects/65")),
        (scope, changed("/w/.github/workflow.yml")),
        (scope, closed),
    ]);
    let text = rendered(events);
    let lines: Vec<&str> = text.lines().skip(2).collect();
    let expected = [
        "22:13:22   ▸ run  git fetch → 1 process",
        "22:13:23     → net  git.test:443, 1.3 kB out, 4 MB in",
        "22:13:24     ✎ .git (git's own files) 2×",
        "22:13:26     ✎ .github/workflow.yml (create)",
    ];
    assert_eq!(lines, expected);
}

/// Allowed is not reached: both ways to fail say so, and counted refusals are added.
#[test]
fn what_failed_or_was_only_counted_is_shown_as_that() {
    let curl = subject(10, &["curl", "x"], &["codex exec"]);
    let unknown = Event::ConnectionDecided {
        decision: decision(Verdict::Allow, "gone.test", curl.clone()),
        address: None,
        sni: None,
        detail: Some("`gone.test` was not found".to_owned()),
    };
    let mut dialled = decision(Verdict::Allow, "down.test", curl.clone());
    dialled.decision = DecisionId::new(7);
    let closed = Event::ConnectionClosed {
        host: "down.test".to_owned(),
        port: 443,
        decision: dialled.decision,
        bytes_out: 0,
        bytes_in: 0,
        duration_ms: 1,
        failed: Some("connection refused".to_owned()),
    };
    let connected = Event::ConnectionDecided {
        decision: dialled,
        address: Some("192.0.2.7".parse().unwrap()),
        sni: None,
        detail: None,
    };
    let mut refused = decision(Verdict::Deny, "paste.test", curl.clone());
    refused.decision = DecisionId::new(9);
    let again = |decision, count| Event::RefusalRepeated {
        decision: DecisionId::new(decision),
        count,
    };
    let unseen = Event::ExecUnconfirmed {
        process: curl.clone(),
        why: "it ended first".to_owned(),
        suspicious: false,
    };
    let scope = Some("c-1");
    let mut events = begun();
    events.extend([
        (scope, started(curl.clone())),
        (scope, unknown),
        (scope, connected),
        (scope, closed),
        (scope, Event::NameDecided { decision: refused }),
        (None, again(9, 40)),
        (None, again(1_000, 2)),
        (scope, unseen),
    ]);
    let text = rendered(events);
    let lines: Vec<&str> = text.lines().skip(2).collect();
    let expected = [
        "22:13:22   ▸ run  curl x → 1 process",
        "22:13:23     → net  gone.test:443 failed",
        "               `gone.test` was not found",
        "22:13:24     → net  down.test:443 failed",
        "               connection refused",
        "22:13:26     ✖ net  paste.test:443 denied (paste-sites) ← curl ← codex 41×",
        "               data leaves the company",
        "22:13:29     ! not verified: curl x",
        "               it ended first",
        "22:13:28 ✖ d-1000 was refused 2 times more",
    ];
    assert_eq!(lines, expected);
}

/// A call of a model that has these tools of its provider, with `text` in every place for foreign text.
fn called(text: &str, declared: &[&str], used: &[&str]) -> Event {
    let tools = |names: &[&str]| {
        let tool = |name: &&str| HostedToolSeen {
            name: RawText::from(*name),
            server: None,
            count: 1,
        };
        names.iter().map(tool).collect::<Vec<_>>()
    };
    Event::ModelCalled {
        process: subject(7, &["codex"], &["codex"]),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        host: "model.test".to_owned(),
        port: 443,
        provider: ModelProvider::OpenAi,
        api: ModelApi::Responses,
        model_asked: None,
        model: Some(text.into()),
        response_id: None,
        status: Some(200),
        streaming: true,
        usage: ModelUsage {
            input: Some(1234),
            cached: Some(900),
            output: Some(56),
            ..ModelUsage::default()
        },
        finish: Some(text.into()),
        error: None,
        hosted_declared: tools(declared),
        hosted_used: tools(used),
        functions: Listed::default(),
        prompts: Listed::default(),
        results: Listed::default(),
        calls: Listed {
            count: 7,
            first: vec![ToolCallSeen {
                id: text.into(),
                name: text.into(),
                arguments: None,
            }],
        },
        said: None,
        bytes_out: 1,
        bytes_in: 2,
        duration_ms: 2345,
        first_byte_ms: None,
        ended: CallEnd::Cut,
        unread: None,
    }
}

#[test]
fn a_call_of_a_model_is_a_line_that_says_what_is_new() {
    let mut events = begun();
    events.push((
        None,
        called("gpt-lab", &["web_search", "mcp"], &["web_search"]),
    ));
    events.push((None, called("gpt-lab", &["web_search", "mcp"], &[])));
    events.push((None, called("gpt-lab\u{1b}[2J\u{202e}", &[], &[])));
    // A long line goes on below its own beginning.
    let text = rendered(events).replace(&format!("\n{:11}", ""), " ");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("◇")).collect();
    let call = "◇ model  gpt-lab 1,234 in (900 cached) 56 out, 2.3 s, stop: gpt-lab, calls gpt-lab and 6 more";
    assert!(lines[0].ends_with(&format!(
        "{call}, provider ran web_search, provider may run web_search, mcp, cut"
    )));
    assert!(lines[1].ends_with(&format!("{call}, cut")), "{text}");
    assert!(lines[2].contains("gpt-lab\\u{1b}[2J\\u{202e}"), "{text}");
}
