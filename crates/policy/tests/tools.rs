//! Rules about tools: what they match of what a model can write, and that they only tighten.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest},
    sample::select,
};
use stockade_fuzz::Target;
use stockade_policy::{
    Approvals, Grants, HostSets, Origin, Policy, Probe, Request, Scope, Source, ToolArguments,
    ToolRequest, load,
};
use stockade_types::{ApprovalId, RawText, RequestKind, Subject, ToolEffect, UnixMillis, Verdict};

const NOW: UnixMillis = UnixMillis(1);

fn source(origin: Origin, text: &str) -> Source {
    Source {
        origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{text}"),
    }
}

fn layers(all: &[(Origin, &str)]) -> Policy {
    let sources: Vec<Source> = all.iter().map(|(o, text)| source(*o, text)).collect();
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn policy(text: &str) -> Policy {
    layers(&[(Origin::User, text)])
}

fn problem(text: &str) -> String {
    let loaded = load(&[source(Origin::User, text)], &HostSets::default());
    loaded.unwrap_err().to_string()
}

fn rule(effect: &str, conditions: &str) -> String {
    format!("[[{effect}]]\nid = \"{effect}-1\"\nwhat = \"tool\"\n{conditions}\n")
}

fn call(tool: &str, server: Option<&str>, arguments: &str) -> Request {
    Request::Tool(request(tool, server, arguments))
}

fn request(tool: &str, server: Option<&str>, arguments: &str) -> ToolRequest {
    let server = server.map(str::as_bytes);
    let subject = Subject {
        exe: "/usr/bin/agent".into(),
        cwd: "/work".into(),
        ..Subject::default()
    };
    ToolRequest {
        workspace: Some("/work".into()),
        ..ToolRequest::new(tool.as_bytes(), server, arguments.as_bytes(), subject)
    }
}

fn verdict(policy: &Policy, request: &Request) -> Verdict {
    policy.decide(request, &Approvals::none()).verdict
}

fn line(line: &str) -> Request {
    let probe = Probe::parse(line).unwrap();
    probe.requests().first().unwrap().clone()
}

/// A server can call its tool what the agent calls its own; an allow does not take one for the other.
#[test]
fn a_server_that_borrows_a_name_gets_no_exception() {
    let ask = rule("ask", "tools = [\"*\"]");
    let policy = policy(&(ask.clone() + &rule("allow", "tools = [\"Bash\", \"mcp__good__*\"]")));
    for (tool, server, expected) in [
        ("Bash", None, Verdict::Allow),
        ("Bash", Some("evil"), Verdict::Ask),
        ("mcp__good__x", None, Verdict::Allow),
        ("x", Some("good"), Verdict::Allow),
        ("mcp__good__x", Some("good"), Verdict::Allow),
        ("mcp__good__x", Some("evil"), Verdict::Ask),
        ("good__x", Some("mcp"), Verdict::Ask),
        // Of `good`, or of `good__evil`.
        ("mcp__good__evil__x", None, Verdict::Ask),
        ("x", Some("good__evil"), Verdict::Ask),
        ("mcp__good", None, Verdict::Ask),
        ("BASH", None, Verdict::Ask),
        ("Bash\u{200b}", None, Verdict::Ask),
    ] {
        let found = verdict(&policy, &call(tool, server, "{}"));
        assert_eq!(found, expected, "{tool} of {server:?}");
    }
    let by_server = rule("allow", "servers = [\"good\"]\ntools = [\"x\"]");
    let policy = self::policy(&(ask + &by_server));
    for (tool, server, expected) in [
        ("x", Some("good"), Verdict::Allow),
        ("mcp__good__x", None, Verdict::Allow),
        ("x", None, Verdict::Ask),
        ("x", Some("evil"), Verdict::Ask),
        ("mcp__good__evil__x", None, Verdict::Ask),
    ] {
        let found = verdict(&policy, &call(tool, server, "{}"));
        assert_eq!(found, expected, "{tool} of {server:?}");
    }
}

/// A name in any of its forms, with as many parts as a server likes, does not get around a deny.
#[test]
fn no_form_of_a_name_gets_around_a_deny() {
    let long = format!("mcp__x{}", "__y".repeat(60));
    let endless = "a".repeat(5_000);
    for conditions in [
        "tools = [\"mcp__bad__run\"]",
        "tools = [\"run\"]\nservers = [\"bad\"]",
        "servers = [\"bad\"]",
    ] {
        let policy = policy(&rule("deny", conditions));
        for (tool, server) in [
            ("run", Some("bad")),
            ("mcp__bad__run", None),
            ("mcp__bad__run", Some("bad")),
            ("MCP__bad__run", Some("bad")),
            ("Run", Some("BAD")),
            (long.as_str(), None),
            (endless.as_str(), None),
            ("run", Some(endless.as_str())),
        ] {
            let found = verdict(&policy, &call(tool, server, "{}"));
            assert_eq!(found, Verdict::Deny, "{conditions}: {tool} of {server:?}");
        }
        for (tool, server) in [("run", None), ("run", Some("good")), ("Bash", None)] {
            let found = verdict(&policy, &call(tool, server, "{}"));
            assert_eq!(found, Verdict::Allow, "{conditions}: {tool} of {server:?}");
        }
    }
}

/// Arguments that another reader could take for others are what a deny is about, and never what an allow
/// is about.
#[test]
fn arguments_that_can_be_read_in_two_ways_are_taken_for_the_worse() {
    let conditions = "tools = [\"*\"]\narguments = { command = [\"bad*\"] }";
    let denies = policy(&rule("deny", conditions));
    let allowing = "tools = [\"Bash\"]\narguments = { command = [\"good*\"] }";
    let allows = policy(&(rule("ask", "tools = [\"*\"]") + &rule("allow", allowing)));
    let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
    let many: Vec<String> = (0..600).map(|n| format!("\"m{n}\":1")).collect();
    let many = format!("{{\"command\":\"good\",{}}}", many.join(","));
    let long = format!(
        "{{\"x\":\"{}\",\"command\":\"good\"}}",
        "y".repeat(300 << 10)
    );
    for arguments in [
        r#"{"command":"good","command":"bad"}"#,
        r#"{"command":"bad","command":"good"}"#,
        r#"{"command":["good","bad"]}"#,
        r#"{"command":"good"} {"command":"bad"}"#,
        r#"{"command":"good""#,
        r#"{"command":"good","x":{"y":1,"y":2}}"#,
        "command=good",
        "\u{0}",
        deep.as_str(),
        many.as_str(),
        long.as_str(),
    ] {
        let request = call("Bash", None, arguments);
        let shown: String = arguments.chars().take(60).collect();
        assert_eq!(verdict(&denies, &request), Verdict::Deny, "{shown}");
        assert_eq!(verdict(&allows, &request), Verdict::Ask, "{shown}");
    }
    for arguments in [
        r#"{"command":"good"}"#,
        r#"{"x":{"command":"good"},"command":"good"}"#,
        r#" { "command" : "g\u006fod" , "timeout" : 5.5 } "#,
    ] {
        let request = call("Bash", None, arguments);
        assert_eq!(verdict(&denies, &request), Verdict::Allow, "{arguments}");
        assert_eq!(verdict(&allows, &request), Verdict::Allow, "{arguments}");
    }
    // An argument that is not there is not given.
    for arguments in ["", "{}", r#"{"other":"bad"}"#, "null"] {
        let request = call("Bash", None, arguments);
        assert_eq!(verdict(&denies, &request), Verdict::Allow, "{arguments}");
        assert_eq!(verdict(&allows, &request), Verdict::Ask, "{arguments}");
    }
}

/// A path of any length, in any spelling, is judged in bounded time.
#[test]
fn a_long_path_is_judged_in_bounded_time() {
    let conditions =
        "tools = [\"*\"]\narguments = { file_path = [\"**/secrets/**\", \"**/*x*/**/y\"] }";
    let policy = policy(&rule("deny", conditions));
    let begun = Instant::now();
    for (path, expected) in [
        (
            format!("/work/{}src/a.rs", "./".repeat(60_000)),
            Verdict::Allow,
        ),
        (
            format!("/work/{}secrets/key", "a/../".repeat(20_000)),
            Verdict::Deny,
        ),
        (format!("/work/{}b", "a/".repeat(1_900)), Verdict::Allow),
        // No call of the kernel takes it.
        (format!("/work/{}b", "a/".repeat(100_000)), Verdict::Deny),
    ] {
        let arguments = format!("{{\"file_path\":\"{path}\"}}");
        let found = verdict(&policy, &call("Read", None, &arguments));
        assert_eq!(found, expected, "{}", path.len());
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// An allow about paths holds in the workspace, and not where `..` or the agent's directory leads.
#[test]
fn an_allowed_path_leads_nowhere_else() {
    let allowing = "tools = [\"Edit\"]\narguments = { file_path = [\"src/**\", \"/etc/hosts\"] }";
    let policy = policy(&(rule("ask", "tools = [\"*\"]") + &rule("allow", allowing)));
    for (path, expected) in [
        ("src/a.rs", Verdict::Allow),
        ("/work/src/a.rs", Verdict::Allow),
        ("/work/x/src/a.rs", Verdict::Allow),
        ("/etc/hosts", Verdict::Allow),
        ("src/../key", Verdict::Ask),
        ("/work/src/../key", Verdict::Ask),
        ("/etc/src/key", Verdict::Ask),
        ("/workshop/src/key", Verdict::Ask),
        ("~/src/key", Verdict::Ask),
        ("src//a.rs", Verdict::Ask),
        ("SRC/a.rs", Verdict::Ask),
        ("etc/hosts", Verdict::Ask),
    ] {
        let arguments = format!("{{\"file_path\":\"{path}\"}}");
        let found = verdict(&policy, &call("Edit", None, &arguments));
        assert_eq!(found, expected, "{path}");
    }
    let elsewhere = |cwd: &str| {
        let mut request = request("Edit", None, r#"{"file_path":"src/a.rs"}"#);
        request.subject.cwd = cwd.into();
        verdict(&policy, &Request::Tool(request))
    };
    assert_eq!(elsewhere("/work/x"), Verdict::Allow);
    assert_eq!(elsewhere("/"), Verdict::Ask);
    assert_eq!(elsewhere(""), Verdict::Ask);
}

#[test]
fn what_a_tool_is_for_is_known_of_known_tools_alone() {
    let policy = policy(&rule(
        "deny",
        "tools = [\"*\"]\neffects = [\"write\", \"execute\"]",
    ));
    for (tool, server, expected) in [
        ("Read", None, Verdict::Allow),
        ("Edit", None, Verdict::Deny),
        ("run_shell_command", None, Verdict::Deny),
        ("Unheard", None, Verdict::Deny),
        ("Read", Some("server"), Verdict::Deny),
    ] {
        assert_eq!(
            verdict(&policy, &call(tool, server, "{}")),
            expected,
            "{tool}"
        );
    }
    let only = self::policy(
        &(rule("ask", "tools = [\"*\"]")
            + &rule("allow", "tools = [\"R*\"]\neffects = [\"read\"]")),
    );
    assert_eq!(verdict(&only, &call("Read", None, "{}")), Verdict::Allow);
    assert_eq!(verdict(&only, &call("Remove", None, "{}")), Verdict::Ask);
}

/// Rules about tools are about nothing else, in either direction.
#[test]
fn rules_about_tools_open_nothing() {
    let ask = "[[ask]]\nid = \"p\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\n";
    let deny = "[[deny]]\nid = \"f\"\nwhat = \"file\"\npaths = [\"key\"]\n";
    let all = rule("allow", "tools = [\"*\"]\nservers = [\"*\"]");
    let plain = policy(&format!("{ask}{deny}"));
    let with = policy(&format!("{ask}{deny}{}", rule("ask", "tools = [\"Q\"]")));
    let loose = policy(&format!(
        "{ask}{deny}{}{all}",
        rule("ask", "tools = [\"Q\"]")
    ));
    for text in [
        "exec git push",
        "file write key",
        "net a.test:443",
        "exec ls",
    ] {
        let expected = verdict(&plain, &line(text));
        assert_eq!(verdict(&with, &line(text)), expected, "{text}");
        assert_eq!(verdict(&loose, &line(text)), expected, "{text}");
    }
    assert!(!plain.restricts_tools() && with.restricts_tools());
    assert_eq!(
        verdict(&plain, &line("tool Bash command=\"git push\"")),
        Verdict::Allow
    );
}

#[test]
fn an_answer_binds_the_call_or_the_tool_of_its_server() {
    let policy = policy(&rule("ask", "tools = [\"*\"]"));
    let asked = call("run", Some("good"), r#"{"command":"a"}"#);
    let decision = policy.decide(&asked, &Approvals::none());
    let revision = policy.revision();
    let other = |tool, server, arguments| call(tool, server, arguments);
    for (scope, same, others) in [
        (
            Scope::Once,
            vec![asked.clone()],
            vec![
                other("run", Some("good"), r#"{"command":"b"}"#),
                other("run", Some("evil"), r#"{"command":"a"}"#),
                other("run", None, r#"{"command":"a"}"#),
                other("runs", Some("good"), r#"{"command":"a"}"#),
            ],
        ),
        (
            Scope::Session,
            vec![
                asked.clone(),
                other("run", Some("good"), r#"{"command":"b"}"#),
            ],
            vec![
                other("run", Some("evil"), r#"{"command":"a"}"#),
                other("run", None, r#"{"command":"a"}"#),
                other("runs", Some("good"), "{}"),
            ],
        ),
    ] {
        let mut grants = Grants::new();
        let id = ApprovalId::from_random(7);
        let given = grants.grant(id, &asked, &decision, scope, revision, NOW);
        given.unwrap();
        let verdict = |request: &Request| {
            let approvals = grants.matching(request, revision, NOW);
            policy.decide(request, &approvals).verdict
        };
        for request in &same {
            assert_eq!(verdict(request), Verdict::Allow, "{scope}: {request:?}");
        }
        for request in &others {
            assert_eq!(verdict(request), Verdict::Ask, "{scope}: {request:?}");
        }
    }
}

/// An answer of one rule is not one of another: a deny for this tool holds, and so does a second question.
#[test]
fn an_answer_lifts_no_other_rule() {
    let ask = rule(
        "ask",
        "tools = [\"Bash\"]\narguments = { command = [\"git push*\"] }",
    );
    let deny = rule(
        "deny",
        "tools = [\"Bash\"]\narguments = { command = [\"*--force*\"] }",
    );
    let policy = policy(&(ask + &deny));
    let asked = call("Bash", None, r#"{"command":"git push"}"#);
    let decision = policy.decide(&asked, &Approvals::none());
    assert_eq!(decision.verdict, Verdict::Ask);
    let mut grants = Grants::new();
    let id = ApprovalId::from_random(7);
    let given = grants.grant(
        id,
        &asked,
        &decision,
        Scope::Session,
        policy.revision(),
        NOW,
    );
    given.unwrap();
    let verdict = |arguments: &str| {
        let request = call("Bash", None, arguments);
        let approvals = grants.matching(&request, policy.revision(), NOW);
        policy.decide(&request, &approvals).verdict
    };
    assert_eq!(verdict(r#"{"command":"git push origin"}"#), Verdict::Allow);
    assert_eq!(verdict(r#"{"command":"git push --force"}"#), Verdict::Deny);
}

#[test]
fn a_kept_answer_is_for_these_arguments() {
    let ask = rule("ask", "tools = [\"*\"]");
    let before = policy(&ask);
    let asked = call("Bash", None, r#"{"command":"a {x} *","n":5}"#);
    let decision = before.decide(&asked, &Approvals::none());
    let kept = before.lasting(&asked, &decision).unwrap();
    let after = policy(&(ask + &kept.to_toml("always-1", "kept")));
    for (arguments, expected) in [
        (r#"{"command":"a {x} *","n":5}"#, Verdict::Allow),
        (r#"{"n":5,"command":"a {x} *"}"#, Verdict::Allow),
        (r#"{"command":"a {x} b","n":5}"#, Verdict::Ask),
        (r#"{"command":"a {x} *"}"#, Verdict::Ask),
        (r#"{"command":"a {x} *","n":6}"#, Verdict::Ask),
    ] {
        let found = verdict(&after, &call("Bash", None, arguments));
        assert_eq!(found, expected, "{arguments}");
    }
    // No rule can name these.
    for arguments in [r#"{"command":["a","b"]}"#, "{", r#"{"a":1,"a":1}"#] {
        let asked = call("Bash", None, arguments);
        let decision = before.decide(&asked, &Approvals::none());
        assert_eq!(before.lasting(&asked, &decision), None, "{arguments}");
    }
}

#[test]
fn mistakes_name_what_to_write() {
    for (conditions, place, help) in [
        ("reason = \"x\"", "deny[0].tools", "missing; name tools"),
        (
            "tools = [\"Bash(git push *)\"]",
            "deny[0].tools[0]",
            "command = [\"git push *\"]",
        ),
        (
            "tools = [\"mcp:github/x\"]",
            "deny[0].tools[0]",
            "servers = [\"github\"]",
        ),
        (
            "servers = [\"mcp__github__*\"]",
            "deny[0].servers[0]",
            "written `github`",
        ),
        ("tools = [\"\"]", "deny[0].tools[0]", "cannot be empty"),
        (
            "tools = [\"x\"]\neffects = [\"reads\"]",
            "deny[0].effects[0]",
            "did you mean `read`",
        ),
        (
            "tools = [\"x\"]\narguments = {}",
            "deny[0].arguments",
            "the table is empty",
        ),
        (
            "tools = [\"x\"]\narguments = { a = [] }",
            "deny[0].arguments.a",
            "the list is empty",
        ),
        (
            "tools = [\"x\"]\narguments = { a = \"b\" }",
            "deny[0].arguments.a",
            "a list of texts",
        ),
        (
            "tools = [\"x\"]\narguments = { file_path = [\"~/.ssh/**\"] }",
            "deny[0].arguments.file_path[0]",
            "cannot know the home",
        ),
        ("tool = [\"x\"]", "deny[0].tool", "tools"),
        (
            "tools = [\"x\"]\nhosts = [\"a.test\"]",
            "deny[0].hosts",
            "has no `hosts`",
        ),
    ] {
        let found = problem(&rule("deny", conditions));
        assert!(
            found.contains(place) && found.contains(help),
            "{conditions}: {found}"
        );
    }
}

/// What a model writes is read in bounded time and memory, whatever it is.
#[test]
fn a_flood_of_arguments_is_read_in_bounded_time_and_memory() {
    let million: String = (0..1_000_000).map(|_| "1,").collect();
    let members: Vec<String> = (0..300_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let members = members.concat();
    let begun = Instant::now();
    for json in [
        format!("[{million}1]"),
        format!("{{{members}\"z\":1}}"),
        format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 20)),
        "[".repeat(2 << 20),
        "{\"a\":".repeat(1 << 20),
        format!("{{\"{}\":1}}", "k".repeat(1 << 20)),
    ] {
        let arguments = ToolArguments::read(json.as_bytes());
        let values = arguments.values();
        let size = |text: &RawText| text.as_bytes().len();
        let bytes: usize = values
            .iter()
            .map(|one| size(&one.path) + size(&one.text))
            .sum();
        assert!(
            values.len() <= 512 && bytes <= 256 << 10,
            "{} {bytes}",
            values.len()
        );
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn fuzz_tool_arguments() {
    let rules = "[[deny]]\nid = \"d\"\nwhat = \"tool\"\ntools = [\"*\"]\n\
        arguments = { command = [\"bad *\"], \"*\" = [\"*x*\"], file_path = [\"a/**\"] }\n\
        [[ask]]\nid = \"a\"\nwhat = \"tool\"\ntools = [\"*\"]\n\
        [[allow]]\nid = \"l\"\nwhat = \"tool\"\ntools = [\"T\"]\narguments = { \"a.b\" = [\"good*\"] }\n";
    let policy = policy(rules);
    let samples = [
        r#"{"command":"bad x","file_path":"a/../b","a":{"b":"good"}}"#,
        r#"{"command":["bad","x"],"n":1.5e300,"t":true,"z":null,"o":{},"l":[[],{}]}"#,
        "*** Begin Patch",
    ];
    let target = Target {
        name: "tool_arguments",
        samples: samples.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            b"{\"a\":", b"\"a.b\"", b"\\ud800", b"\\u0000", b"[[[[", b"1e999", b"\xff",
        ],
        tries: 400,
    };
    let check = |bytes: &[u8]| {
        let request = ToolRequest::new(b"T", None, bytes, Subject::default());
        let values = request.arguments.values().len();
        assert!(values <= 512);
        let allowed = verdict(&policy, &Request::Tool(request.clone())) == Verdict::Allow;
        // Only arguments that are JSON with one reading are allowed.
        let parsed = serde_json::from_slice::<serde_json::Value>(bytes);
        let good = parsed.is_ok_and(|json| {
            let text = json.pointer("/a/b").and_then(serde_json::Value::as_str);
            text.is_some_and(|text| text.starts_with("good"))
        });
        assert!(!allowed || (good && request.arguments.is_whole()));
    };
    stockade_fuzz::target(&target, check);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever else a policy says of tools: a further deny or ask never makes an answer less strict, a
    /// further allow never lifts a deny, and a deny that names the call exactly denies it.
    #[test]
    fn no_further_rule_about_tools_loosens(
        rules in vec((select(vec!["allow", "ask", "deny"]), 0..7_usize, 0..6_usize), 0..5),
        further in (0..7_usize, 0..6_usize),
        tool in select(vec!["Bash", "bash", "Read", "run", "mcp__good__run", "mcp__good__a__run"]),
        server in select(vec![None, Some("good"), Some("Good"), Some("evil")]),
        command in select(vec!["git push", "git  push x", "GIT PUSH", "ls", "a/../b"]),
        shape in 0..4_usize,
        twice in any::<bool>(),
    ) {
        let names = [
            "tools = [\"Bash\"]", "tools = [\"*\"]", "tools = [\"b*\"]", "servers = [\"good\"]",
            "servers = [\"*\"]\ntools = [\"run\"]", "tools = [\"mcp__good__*\"]", "tools = [\"run\"]",
        ];
        let arguments = [
            "", "arguments = { command = [\"git push*\"] }", "arguments = { command = [\"git push *\"] }",
            "arguments = { \"*\" = [\"*push*\"] }", "effects = [\"execute\"]",
            "arguments = { file_path = [\"b\"] }",
        ];
        let text = |number: usize, effect: &str, (name, argument): (usize, usize)| {
            format!(
                "[[{effect}]]\nid = \"r{number}\"\nwhat = \"tool\"\n{}\n{}\n",
                names[name], arguments[argument]
            )
        };
        let written: Vec<String> = rules
            .iter()
            .enumerate()
            .map(|(number, (effect, name, argument))| text(number, effect, (*name, *argument)))
            .collect();
        let written = written.concat();
        let json = match shape {
            0 => format!("{{\"command\":{command:?}}}"),
            1 => format!("{{\"file_path\":{command:?},\"command\":[{command:?}]}}"),
            2 => "{}".to_owned(),
            _ => format!("{{\"command\":{command:?},\"command\":\"x\"}}"),
        };
        let request = call(tool, server, &json);
        let base = verdict(&policy(&written), &request);
        for effect in ["ask", "deny"] {
            let with = policy(&(written.clone() + &text(90, effect, further)));
            let found = verdict(&with, &request);
            prop_assert!(found >= base, "{effect}: {base} became {found}");
            if twice {
                let again = policy(&(text(90, effect, further) + &written));
                prop_assert_eq!(verdict(&again, &request), found, "the order of rules");
            }
        }
        let with = policy(&(written.clone() + &text(90, "allow", further)));
        let found = verdict(&with, &request);
        prop_assert!(found <= base && (base == Verdict::Deny) == (found == Verdict::Deny));
        let exact = match server {
            Some(server) => format!("tools = [{tool:?}]\nservers = [{server:?}]"),
            None => format!("tools = [{tool:?}]"),
        };
        let denied = policy(&(written + &rule("deny", &exact)));
        prop_assert_eq!(verdict(&denied, &request), Verdict::Deny);
    }
}

#[test]
fn a_record_of_a_tool_call_is_no_request() {
    let request = call("Bash", None, r#"{"command":"ls"}"#);
    assert_eq!(request.kind(), RequestKind::Tool);
    assert_eq!(
        Request::of_target(RequestKind::Tool, &request.target()),
        None
    );
    assert_eq!(request.target().summary(), "Bash");
    let of_server = call("run\u{202e}", Some("good"), "{}");
    assert_eq!(of_server.target().summary(), "good/run\\u{202e}");
    let Request::Tool(tool) = of_server else {
        panic!("a tool")
    };
    assert_eq!(tool.effect, ToolEffect::Unknown);
}

/// Without hooks nothing keeps a rule about tools: such a policy does not load, whichever layer says what.
#[test]
fn no_rule_about_tools_loads_without_the_hooks_that_keep_it() {
    let off = "[agent]\nhooks = false\n";
    let load = |sources: &[Source]| load(sources, &HostSets::default());
    let refused = |sources: &[Source]| load(sources).map(|_| ()).unwrap_err().to_string();
    let ask = rule("ask", "tools = [\"Bash\"]");
    let deny = rule("deny", "tools = [\"Bash\"]");
    let cedar = "[[cedar]]\nid = \"cedar-1\"\n\
                 text = 'forbid (principal, action == Action::\"tool\", resource);'\n";
    for (text, id) in [
        (ask.as_str(), "ask-1"),
        (&deny, "deny-1"),
        (cedar, "cedar-1"),
    ] {
        for (of_off, of_rule) in [
            (Origin::User, Origin::Organisation),
            (Origin::Organisation, Origin::User),
        ] {
            let problems = refused(&[source(of_off, off), source(of_rule, text)]);
            let expected = format!(
                "rule `{id}` is about tool calls, which only hooks keep, and `agent.hooks = false` ({of_off}.toml"
            );
            assert!(problems.contains(&expected), "{problems}");
            assert!(
                problems.contains(&format!("{of_rule}.toml:2:1")),
                "{problems}"
            );
        }
        let both = format!("{off}{text}");
        assert!(refused(&[source(Origin::User, &both)]).contains(id));
        // Each by itself loads.
        load(&[source(Origin::User, text)]).unwrap();
    }
    let allow = format!("{off}{}", rule("allow", "tools = [\"Bash\"]"));
    assert!(
        !load(&[source(Origin::User, &allow)])
            .unwrap()
            .restricts_tools()
    );
    // The organisation's word is the last.
    let on = source(Origin::Organisation, "[agent]\nhooks = true\n");
    let problems = refused(&[on, source(Origin::User, off)]);
    assert!(
        problems.contains("differs from `true` of the organisation layer"),
        "{problems}"
    );
}
