//! Grants: they cover what was approved, no more and no longer, and never follow a denial.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use stockade_policy::{
    Approvals, Decision, Effect, EffectBound, ExecRequest, FileContent, GrantError, Grants,
    HostSets, Involved, NetRequest, Origin, Policy, Probe, Request, Scope, Source, Variable, load,
};
use stockade_types::{ApprovalId, Digest, Port, Subject, UnixMillis, Verdict};

const NOW: UnixMillis = UnixMillis(1_000);

fn policy(extra: &str) -> Policy {
    let text = format!("schema = 1\nextends = [\"builtin:coding-agent\"]\n{extra}");
    let source = Source {
        origin: Origin::User,
        name: "user.toml".to_owned(),
        text,
    };
    load(&[source], &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn request(line: &str) -> Request {
    Probe::parse(line)
        .unwrap()
        .requests()
        .last()
        .unwrap()
        .clone()
}

fn push(change: impl Fn(&mut ExecRequest)) -> Request {
    let Request::Exec(mut exec) = request("exec git push origin main") else {
        panic!("exec")
    };
    exec.digest = Some(Digest::of(b"git"));
    change(&mut exec);
    Request::Exec(exec)
}

fn variable(name: &str, value: Option<&str>) -> Variable {
    Variable {
        name: name.into(),
        value: value.map(Into::into),
    }
}

fn involved(path: &str, content: &[u8]) -> Involved {
    Involved {
        path: path.into(),
        digest: Some(Digest::of(content)),
    }
}

fn effect(label: &str, text: &str, bound: EffectBound) -> Effect {
    Effect {
        label: label.to_owned(),
        text: text.into(),
        bound,
    }
}

fn id(number: u32) -> ApprovalId {
    ApprovalId::from_random(number)
}

fn ask(policy: &Policy, request: &Request) -> Decision {
    let decision = policy.decide(request, &Approvals::none());
    assert_eq!(decision.verdict, Verdict::Ask, "{decision:?}");
    decision
}

fn granted(policy: &Policy, request: &Request, scope: Scope) -> Grants {
    let mut grants = Grants::new();
    let decision = ask(policy, request);
    grants
        .grant(id(1), request, &decision, scope, policy.revision(), NOW)
        .unwrap();
    grants
}

fn verdict(policy: &Policy, grants: &Grants, request: &Request) -> Verdict {
    policy
        .decide(request, &grants.matching(request, policy.revision(), NOW))
        .verdict
}

// keeps invariant: approved-is-what-runs
/// An id is the name of a rule within its layer: what one rule asks, no rule of another layer with the
/// same id has asked.
#[test]
fn rules_of_two_layers_with_one_id_are_two_rules() {
    let same = policy(
        "[[ask]]\nid = \"push\"\nwhat = \"exec\"\ncommand = [\"deploy\", \"**\"]\nreason = \"lab\"\n",
    );
    let by_preset = ask(&same, &push(|_| ()));
    assert!(same.asks_by_default(&by_preset), "{by_preset:?}");
    let by_user = ask(&same, &request("exec deploy now"));
    assert!(!same.asks_by_default(&by_user), "{by_user:?}");
    let both = policy(
        "[[ask]]\nid = \"push\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\nreason = \"lab\"\n",
    );
    let by_both = ask(&both, &push(|_| ()));
    assert_eq!(by_both.rules.len(), 2, "{by_both:?}");
    assert!(!both.asks_by_default(&by_both), "{by_both:?}");
    // An answer is for those that asked.
    let grants = granted(&both, &push(|_| ()), Scope::Session);
    assert_eq!(verdict(&both, &grants, &push(|_| ())), Verdict::Allow);
}

#[test]
fn once_is_the_exact_request_once() {
    let policy = policy("");
    let wanted = push(|_| {});
    let mut grants = granted(&policy, &wanted, Scope::Once);
    for other in [
        request("exec git push origin other"),
        push(|exec| exec.cwd = "/elsewhere".into()),
        push(|exec| exec.digest = Some(Digest::of(b"another git"))),
        push(|exec| exec.invoked_as = "/workspace/git".into()),
        push(|exec| exec.differing = vec![variable("HOME", Some("/elsewhere"))]),
        push(|exec| exec.differing = vec![variable("GIT_CONFIG_NOSYSTEM", None)]),
        push(|exec| exec.involved = vec![involved("/bin/sh", b"sh")]),
        push(|exec| exec.effects = vec![effect("to", "other.test", EffectBound::Always)]),
        push(|exec| exec.effects = vec![effect("refs", "1..2", EffectBound::Exact)]),
        push(|exec| exec.argv.push("--force".into())),
    ] {
        assert_ne!(
            verdict(&policy, &grants, &other),
            Verdict::Allow,
            "{other:?}"
        );
    }
    assert_eq!(verdict(&policy, &grants, &wanted), Verdict::Allow);
    let approvals = grants.matching(&wanted, policy.revision(), NOW);
    assert_eq!(grants.consume(&wanted, &approvals, NOW), Some(id(1)));
    assert_eq!(grants.consume(&wanted, &approvals, NOW), None);
    assert_eq!(verdict(&policy, &grants, &wanted), Verdict::Ask);
}

#[test]
fn a_session_grant_binds_what_gives_the_command_its_meaning() {
    let policy = policy("");
    let original = |exec: &mut ExecRequest| {
        exec.differing = vec![variable("A", Some("1")), variable("B", None)];
        exec.involved = vec![involved("/bin/sh", b"sh")];
        exec.effects = vec![
            effect("to", "good.test", EffectBound::Always),
            effect("commits", "1..2", EffectBound::Exact),
        ];
    };
    let wanted = push(original);
    let grants = granted(&policy, &wanted, Scope::Session);
    let with = |change: &dyn Fn(&mut ExecRequest)| {
        let request = push(|exec| {
            original(exec);
            change(exec);
        });
        verdict(&policy, &grants, &request)
    };
    let same: [&dyn Fn(&mut ExecRequest); 4] = [
        &|_| {},
        &|exec| exec.differing.reverse(),
        // These change as the work proceeds, and rules have judged the other variables.
        &|exec| exec.effects[1].text = "2..3".into(),
        &|exec| exec.environment.push(("SHLVL".into(), "3".into())),
    ];
    for change in same {
        assert_eq!(with(change), Verdict::Allow);
    }
    let other: [&dyn Fn(&mut ExecRequest); 8] = [
        &|exec| exec.differing.push(variable("HOME", Some("/x"))),
        &|exec| exec.differing[0].value = Some("2".into()),
        &|exec| exec.differing[0].value = None,
        &|exec| exec.differing.clear(),
        // If a variable occurs twice, some programs use the first value and others the last.
        &|exec| exec.differing.insert(0, variable("A", Some("2"))),
        &|exec| exec.involved[0].digest = Some(Digest::of(b"another sh")),
        &|exec| exec.involved.clear(),
        &|exec| exec.effects[0].text = "evil.test".into(),
    ];
    for change in other {
        assert_eq!(with(change), Verdict::Ask);
    }
}

#[test]
fn the_order_of_variables_of_one_name_counts() {
    let policy = policy("");
    let homes = |first: &'static str, second: &'static str| {
        push(|exec| {
            exec.differing = vec![
                variable("HOME", Some(first)),
                variable("HOME", Some(second)),
            ];
        })
    };
    let grants = granted(&policy, &homes("/a", "/b"), Scope::Session);
    assert_eq!(
        verdict(&policy, &grants, &homes("/a", "/b")),
        Verdict::Allow
    );
    assert_eq!(verdict(&policy, &grants, &homes("/b", "/a")), Verdict::Ask);
}

#[test]
fn counted_uses_are_those_of_the_program_that_asked() {
    let policy = policy("");
    let by = |exe: &str| {
        let Request::Net(mut net) = request("net good.test:443") else {
            panic!("net")
        };
        net.subject.exe = exe.into();
        Request::Net(net)
    };
    for scope in [Scope::Once, Scope::Uses(2)] {
        let grants = granted(&policy, &by("/usr/bin/node"), scope);
        assert_eq!(
            verdict(&policy, &grants, &by("/usr/bin/node")),
            Verdict::Allow
        );
        assert_eq!(
            verdict(&policy, &grants, &by("/usr/bin/curl")),
            Verdict::Ask
        );
    }
    let grants = granted(&policy, &by("/usr/bin/node"), Scope::Session);
    assert_eq!(
        verdict(&policy, &grants, &by("/usr/bin/curl")),
        Verdict::Allow
    );
}

#[test]
fn a_counted_grant_that_nobody_used_can_be_withdrawn() {
    let policy = policy("");
    let wanted = push(|_| {});
    for (scope, withdrawn) in [
        (Scope::Once, true),
        (Scope::Uses(2), true),
        (Scope::Session, false),
    ] {
        let mut grants = granted(&policy, &wanted, scope);
        assert_eq!(grants.withdraw(&id(1)), withdrawn);
        let left = !grants.matching(&wanted, policy.revision(), NOW).is_empty();
        assert_eq!(left, !withdrawn);
    }
    let mut used = granted(&policy, &wanted, Scope::Uses(2));
    let approvals = used.matching(&wanted, policy.revision(), NOW);
    assert!(used.consume(&wanted, &approvals, NOW).is_some());
    assert!(!used.withdraw(&id(1)));
}

#[test]
fn a_number_of_uses_is_counted() {
    let policy = policy("");
    let wanted = push(|_| {});
    let mut grants = granted(&policy, &wanted, Scope::Uses(2));
    for expected in [Some(id(1)), Some(id(1)), None] {
        let approvals = grants.matching(&wanted, policy.revision(), NOW);
        assert_eq!(grants.consume(&wanted, &approvals, NOW), expected);
    }
}

#[test]
fn a_session_grant_is_what_was_shown() {
    let policy = policy("");
    let wanted = request("net good.test:443");
    let grants = granted(&policy, &wanted, Scope::Session);
    assert_eq!(verdict(&policy, &grants, &wanted), Verdict::Allow);
    // They cover the requests on the connection and the other web port, but no other host.
    for same in [
        "net POST https://good.test/x",
        "net good.test:80",
        "net GET http://good.test/",
        "net www.good.test:443",
    ] {
        assert_eq!(
            verdict(&policy, &grants, &request(same)),
            Verdict::Allow,
            "{same}"
        );
    }
    for other in [
        "net a.good.test:443",
        "net GET http://a.good.test/",
        "net www.a.good.test:443",
        "net wwww.good.test:443",
    ] {
        assert_eq!(
            verdict(&policy, &grants, &request(other)),
            Verdict::Ask,
            "{other}"
        );
    }
}

/// Other ports are separate, `once` covers only the port that was shown, and a written rule about
/// one port asks its own question.
#[test]
fn both_ports_of_the_web_are_one_door_and_no_others_are() {
    let rules = "[[ask]]\nid = \"more\"\nwhat = \"net\"\nhosts = [\"good.test\", \"www.good.test\"]\nports = [8080, 8443]\n";
    let policy = policy(rules);
    let wanted = request("net good.test:8443");
    let grants = granted(&policy, &wanted, Scope::Session);
    assert_eq!(
        verdict(&policy, &grants, &request("net good.test:8080")),
        Verdict::Ask
    );
    assert_eq!(
        verdict(&policy, &grants, &request("net www.good.test:8443")),
        Verdict::Ask
    );
    let wanted = request("net good.test:443");
    let once = granted(&policy, &wanted, Scope::Once);
    for other in ["net good.test:80", "net www.good.test:443"] {
        assert_eq!(
            verdict(&policy, &once, &request(other)),
            Verdict::Ask,
            "{other}"
        );
    }
}

/// Flags that do not change a push's effect are part of the same push; any other word makes another
/// push.
#[test]
fn a_session_grant_for_a_push_is_for_its_place_and_branches() {
    let policy = policy("");
    let with = |words: &[&str], refs: &str| {
        push(|exec| {
            exec.argv = words.iter().map(|word| (*word).into()).collect();
            exec.effects = [("to", "http://forge.test/p.git"), ("refs", refs)]
                .into_iter()
                .map(|(label, text)| Effect {
                    label: label.to_owned(),
                    text: text.into(),
                    bound: EffectBound::Always,
                })
                .collect();
        })
    };
    let wanted = with(&["git", "push", "origin", "work"], "work");
    let grants = granted(&policy, &wanted, Scope::Session);
    for words in [
        &["git", "push", "-q", "origin", "work"][..],
        &["git", "push", "-u", "-v", "origin", "work"],
    ] {
        assert_eq!(
            verdict(&policy, &grants, &with(words, "work")),
            Verdict::Allow,
            "{words:?}"
        );
    }
    for words in [
        &["git", "push", "-f", "origin", "work"][..],
        &["git", "push", "origin", "-q", "work"],
        &["git", "push", "-o", "-q", "origin", "work"],
        &["git", "-q", "push", "origin", "work"],
        &["git", "push", "--receive-pack=evil", "origin", "work"],
    ] {
        assert_eq!(
            verdict(&policy, &grants, &with(words, "work")),
            Verdict::Ask,
            "{words:?}"
        );
    }
    let other = with(&["git", "push", "-q", "origin", "work"], "main");
    assert_eq!(verdict(&policy, &grants, &other), Verdict::Ask);
}

#[test]
fn a_connection_that_was_approved_once_carries_its_requests() {
    let policy = policy("");
    let wanted = request("net good.test:80");
    let mut grants = granted(&policy, &wanted, Scope::Once);
    let approvals = grants.matching(&wanted, policy.revision(), NOW);
    assert_eq!(grants.consume(&wanted, &approvals, NOW), Some(id(1)));
    let carried = request("net GET http://good.test/x");
    assert_eq!(policy.decide(&carried, &approvals).verdict, Verdict::Allow);
    // A new connection causes a new question.
    assert!(grants.matching(&carried, policy.revision(), NOW).is_empty());
    assert!(grants.matching(&wanted, policy.revision(), NOW).is_empty());
}

#[test]
fn a_question_about_requests_is_not_answered_for_the_connection() {
    let policy = policy(
        "[[ask]]\nid = \"posts\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nmethods = [\"POST\"]\n",
    );
    let connection = request("net good.test:80");
    let grants = granted(&policy, &connection, Scope::Session);
    let decision = policy.decide(
        &connection,
        &grants.matching(&connection, policy.revision(), NOW),
    );
    assert_eq!(
        (decision.verdict, decision.http_only),
        (Verdict::Allow, true)
    );
    assert_eq!(
        verdict(&policy, &grants, &request("net GET http://good.test/x")),
        Verdict::Allow
    );
    assert_eq!(
        verdict(&policy, &grants, &request("net POST http://good.test/x")),
        Verdict::Ask
    );
}

#[test]
fn time_revision_and_revocation_end_a_grant() {
    let before = policy("");
    let wanted = request("net good.test:443");
    let mut grants = granted(&before, &wanted, Scope::Until(UnixMillis(2_000)));
    let valid =
        |grants: &Grants, revision, now| !grants.matching(&wanted, revision, now).is_empty();
    assert!(valid(&grants, before.revision(), UnixMillis(1_999)));
    assert!(!valid(&grants, before.revision(), UnixMillis(2_000)));
    let after = policy("[limits]\nmemory = \"1GiB\"\n");
    assert!(!valid(&grants, after.revision(), NOW));
    let old = grants.matching(&wanted, before.revision(), NOW);
    assert_eq!(after.decide(&wanted, &old).verdict, Verdict::Ask);
    assert!(grants.revoke(&id(1)));
    assert!(!grants.revoke(&id(1)));
    assert!(!valid(&grants, before.revision(), NOW));
    assert_eq!(grants.consume(&wanted, &old, NOW), None);
    assert!(
        grants
            .list()
            .iter()
            .all(|view| view.revoked && view.used == 0)
    );
}

#[test]
fn a_denied_approval_is_never_granted() {
    let policy = policy("");
    let wanted = request("net good.test:443");
    let decision = ask(&policy, &wanted);
    let mut grants = Grants::new();
    assert_eq!(grants.deny(id(1), &wanted), Ok(1));
    assert_eq!(grants.deny(id(2), &wanted), Ok(2));
    assert_eq!(grants.denied_count(&wanted), 2);
    assert_eq!(grants.denied_count(&request("net other.test:443")), 0);
    let again = grants.grant(
        id(1),
        &wanted,
        &decision,
        Scope::Once,
        policy.revision(),
        NOW,
    );
    assert_eq!(again, Err(GrantError::Settled(id(1))));
    assert_eq!(grants.deny(id(1), &wanted), Err(GrantError::Settled(id(1))));
}

#[test]
fn only_an_ask_can_be_granted_and_only_as_far_as_its_rule_lets() {
    let policy = policy(
        "[[ask]]\nid = \"few\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nscope_max = \"2-uses\"\n",
    );
    let mut grants = Grants::new();
    let denied = request("net 169.254.169.254:80");
    let decision = policy.decide(&denied, &Approvals::none());
    let refused = grants.grant(
        id(1),
        &denied,
        &decision,
        Scope::Once,
        policy.revision(),
        NOW,
    );
    assert_eq!(refused, Err(GrantError::NotAsked(Verdict::Deny)));
    let wanted = request("net good.test:443");
    let decision = ask(&policy, &wanted);
    for scope in [
        Scope::Session,
        Scope::Uses(3),
        Scope::Until(UnixMillis(9_000)),
    ] {
        let refused = grants.grant(id(1), &wanted, &decision, scope, policy.revision(), NOW);
        assert!(
            matches!(refused, Err(GrantError::TooWide { .. })),
            "{scope}: {refused:?}"
        );
    }
    let nameless = request("exec git push");
    let decision = ask(&policy, &nameless);
    let refused = grants.grant(
        id(1),
        &nameless,
        &decision,
        Scope::Session,
        policy.revision(),
        NOW,
    );
    assert_eq!(refused, Err(GrantError::NoIdentity(Scope::Session)));
    let past = Scope::Until(NOW);
    let wanted = push(|_| {});
    let decision = ask(&policy, &wanted);
    let refused = grants.grant(id(1), &wanted, &decision, past, policy.revision(), NOW);
    assert_eq!(refused, Err(GrantError::Past));
}

#[test]
fn an_approval_lifts_no_deny() {
    let policy = policy(
        "[[deny]]\nid = \"no-force\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\", \"--force\", \"**\"]\n",
    );
    let wanted = push(|_| {});
    let forced = push(|exec| exec.argv.push("--force".into()));
    let mut grants = granted(&policy, &wanted, Scope::Once);
    // Even a grant for an ask elsewhere answers a rule, but never a deny.
    let asked = ask(&policy, &wanted);
    grants
        .grant(
            id(2),
            &forced,
            &asked,
            Scope::Session,
            policy.revision(),
            NOW,
        )
        .unwrap();
    assert_eq!(verdict(&policy, &grants, &forced), Verdict::Deny);
}

// keeps invariant: permitted-only
#[test]
fn the_proof_is_only_given_for_an_allow() {
    let policy = policy("");
    let none = Approvals::none();
    assert!(policy.permit(request("exec git status"), &none).is_ok());
    for line in ["exec git push", "net 192.0.2.1:443", "net unknown.test:443"] {
        assert!(policy.permit(request(line), &none).is_err(), "{line}");
    }
}

#[test]
fn scopes_read_as_they_are_written() {
    for text in ["once", "5-uses", "session", "until:1700000000000"] {
        assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
    }
    for text in ["0-uses", "forever", "", "-1-uses", "until:"] {
        assert!(text.parse::<Scope>().is_err(), "{text}");
    }
}

#[test]
fn protected_content_is_asked_about_and_binds_the_answer() {
    const HOOK: &str = "file create .git/hooks/pre-commit";
    let with = |line: &str, bytes: &[u8]| {
        let Request::File(mut file) = request(line) else {
            panic!("file")
        };
        file.content = Some(FileContent::new([(&file.path, Some(bytes))], Vec::new()));
        Request::File(file)
    };
    let own = policy("");
    let decide = |policy: &Policy, request: &Request| policy.decide(request, &Approvals::none());
    assert_eq!(decide(&own, &request(HOOK)).verdict, Verdict::Deny);
    let asked = with(HOOK, b"a");
    let decision = decide(&own, &asked);
    assert_eq!(decision.verdict, Verdict::Ask);
    assert!(own.lasting(&asked, &decision).is_none());
    let mut grants = Grants::new();
    let id: ApprovalId = "00000001".parse().unwrap();
    let revision = own.revision();
    grants
        .grant(id, &asked, &decision, Scope::Session, revision, NOW)
        .unwrap();
    for (request, verdict) in [
        (with(HOOK, b"a"), Verdict::Allow),
        (with(HOOK, b"b"), Verdict::Ask),
        (with("file write .git/hooks/pre-commit", b"a"), Verdict::Ask),
        (with("file create .git/hooks/pre-push", b"a"), Verdict::Ask),
        (request(HOOK), Verdict::Deny),
    ] {
        let approvals = grants.matching(&request, revision, NOW);
        let decided = own.decide(&request, &approvals).verdict;
        assert_eq!(decided, verdict, "{request:?}");
    }
    // An entry of a file is stronger, and no allow answers it.
    for (extra, line, verdict) in [
        (
            "[workspace]\nprotect = [\".git/hooks/**\"]\n",
            HOOK,
            Verdict::Deny,
        ),
        (
            "[[deny]]\nid = \"d\"\nwhat = \"file\"\npaths = [\".git/hooks/**\"]\n",
            HOOK,
            Verdict::Deny,
        ),
        (
            "[[allow]]\nid = \"a\"\nwhat = \"file\"\npaths = [\".git/hooks/**\"]\n",
            HOOK,
            Verdict::Ask,
        ),
        ("", "file create .stockade.toml", Verdict::Deny),
        ("", "file create .stockade/x", Verdict::Deny),
        ("", "file rename .git", Verdict::Deny),
    ] {
        let decided = decide(&policy(extra), &with(line, b"a")).verdict;
        assert_eq!(decided, verdict, "{extra} {line}");
    }
}

/// An answer about paths is for requests of these methods below this path alone, to the same host, and
/// only where the rule lets an answer hold for the session.
#[test]
fn an_answer_about_paths_covers_what_is_below_them() {
    let rule = "[[ask]]\nid = \"items\"\nwhat = \"net\"\nhosts = [\"api.test\"]\nmethods = \
                [\"GET\", \"POST\"]\n";
    let policy = policy(rule);
    let asked = request("net GET https://api.test/v1/items/7");
    let grants = granted(&policy, &asked, Scope::Paths);
    let verdict = |line: &str| {
        let request = request(line);
        let approvals = grants.matching(&request, policy.revision(), NOW);
        policy.decide(&request, &approvals).verdict
    };
    for line in [
        "GET https://api.test/v1/items/8?all",
        "GET https://api.test/v1/items/7/parts",
    ] {
        assert_eq!(verdict(&format!("net {line}")), Verdict::Allow, "{line}");
    }
    for line in [
        "POST https://api.test/v1/items/7",
        "GET https://api.test/v1/items",
        "GET https://api.test/v1/items/../users",
        "GET http://api.test/v1/items/7",
    ] {
        assert_eq!(verdict(&format!("net {line}")), Verdict::Ask, "{line}");
    }
    assert_eq!(
        grants.list()[0].target,
        "GET, HEAD of api.test:443/v1/items/**"
    );

    let revision = policy.revision();
    let connection = Request::Net(NetRequest {
        host: "other.test".parse().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject::default(),
    });
    let refused = |policy: &Policy, request: &Request| {
        let decision = ask(policy, request);
        Grants::new().grant(id(1), request, &decision, Scope::Paths, revision, NOW)
    };
    assert_eq!(refused(&policy, &connection), Err(GrantError::NoPaths));
    let once = self::policy(&format!("{rule}scope_max = \"once\"\n"));
    assert!(matches!(
        refused(&once, &asked),
        Err(GrantError::TooWide { .. })
    ));
}
