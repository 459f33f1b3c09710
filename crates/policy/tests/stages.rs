//! Stages: how they are written, that no layer weakens those of another, and what they come to.

#![expect(clippy::panic, reason = "tests")]

use stockade_policy::{
    Approvals, Decision, GrantError, Grants, HostSets, Origin, Policy, Probe, Problem, Request,
    Review, Scope, Source, Strength, load,
};
use stockade_types::{ApprovalId, Span, UnixMillis, Verdict};

/// Stages that the rules of these tests name.
const STAGES: &str = r#"
[stages.owner]
who = "role:code-owner"
[stages.security]
who = "role:security"
need = 2
strength = "passkey"
[stages.manager]
who = "role:security-manager"
veto = 2
"#;

/// The organisation asks two stages, or a third.
const PUSH: &str = r#"
[[ask]]
id = "push"
what = "exec"
command = ["git", "push", "**"]
stages = ["owner", "security"]
alternatives = [["manager"]]
reason_required = true
scope_max = "once"
expires = "15m"
"#;

fn source(origin: Origin, text: &str) -> Source {
    Source {
        origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{text}"),
    }
}

fn loaded(sources: &[Source]) -> Policy {
    load(sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn organisation(rules: &str) -> Source {
    source(Origin::Organisation, &format!("{STAGES}{rules}"))
}

fn request(line: &str) -> Request {
    let probe = Probe::parse(line).unwrap_or_else(|error| panic!("{error}"));
    let first = probe.requests().first();
    first.unwrap_or_else(|| panic!("{line}")).clone()
}

fn decide(policy: &Policy, line: &str) -> Decision {
    policy.decide(&request(line), &Approvals::none())
}

fn review(policy: &Policy, line: &str) -> Review {
    let decision = decide(policy, line);
    let review = decision.review().cloned();
    review.unwrap_or_else(|| panic!("nobody is asked: {decision:?}"))
}

fn problems(sources: &[Source]) -> Vec<Problem> {
    match load(sources, &HostSets::default()) {
        Ok(_) => panic!("it loads"),
        Err(problems) => problems.0,
    }
}

const ASKED: &str = "exec git push origin main";

#[test]
fn a_rule_asks_who_it_names() {
    let policy = loaded(&[organisation(PUSH)]);
    let decision = decide(&policy, ASKED);
    assert_eq!(decision.verdict, Verdict::Ask);
    let who = "owner, then two of security; or manager";
    assert_eq!(
        decision.remedy,
        format!("wait for the answer: it asks {who}")
    );
    let asked = review(&policy, ASKED);
    assert_eq!(asked.in_words(), who);
    assert!(asked.reason_required);
    assert_eq!(asked.scope_max, Scope::Once);
    assert_eq!(asked.break_glass, None);
    let security = asked
        .stage("security")
        .map(|stage| (stage.need, stage.veto, stage.strength));
    assert_eq!(security, Some((2, 1, Strength::Passkey)));
    let manager = asked
        .stage("manager")
        .map(|stage| (stage.need, stage.veto, stage.strength));
    assert_eq!(manager, Some((1, 2, Strength::Session)));
    let stage = decision.stage.unwrap_or_else(|| panic!("asked"));
    assert_eq!(stage.expires, Span::from_millis(15 * 60 * 1000));
    let listed = policy.rules();
    let listed = listed.iter().find(|rule| rule.id.to_string() == "push");
    assert_eq!(listed.and_then(|rule| rule.review.clone()), Some(asked));
}

/// One mistake each, the line and field that is named, and part of the fix.
const MISTAKES: &[(&str, u32, &str, &str)] = &[
    (
        "[stages.a]",
        2,
        "stages.a.who",
        "for example \"role:security\"",
    ),
    (
        "[stages.a]\nwho = \"security\"",
        3,
        "stages.a.who",
        "write `role:`",
    ),
    (
        "[stages.a]\nwho = \"role:\"",
        3,
        "stages.a.who",
        "write `role:`",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nneed = 0",
        4,
        "stages.a.need",
        "above 0",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nneed = 17",
        4,
        "stages.a.need",
        "more than 16",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nveto = 4294967297",
        4,
        "stages.a.veto",
        "more than 16",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nstrength = \"sms\"",
        4,
        "stages.a.strength",
        "session, key, passkey",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\ndistinct_from = [\"b\"]",
        4,
        "stages.a.distinct_from",
        "always is",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nescalate = \"b\"",
        4,
        "stages.a.escalate",
        "escalate_after",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nescalate_after = \"5m\"",
        4,
        "stages.a.escalate_after",
        "needs `escalate_to`",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nescalate_to = \"role:b\"",
        4,
        "stages.a.escalate_to",
        "needs `escalate_after`",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nescalate_after = \"2d\"\nescalate_to = \"role:b\"",
        4,
        "stages.a.escalate_after",
        "at most",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nescalate_after = \"2m\"\nescalate_to = \"b\"",
        5,
        "stages.a.escalate_to",
        "not a role",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nwait = \"0s\"",
        4,
        "stages.a.wait",
        "more than nothing",
    ),
    (
        "[stages.a]\nwho = \"role:a\"\nneeds = 2",
        4,
        "stages.a.needs",
        "did you mean `need`",
    ),
    (
        "[stages.\"a b\"]\nwho = \"role:a\"",
        2,
        "stages.a b",
        "name of a stage",
    ),
    (
        "[break_glass]\nmax = \"30m\"",
        2,
        "break_glass.who",
        "missing",
    ),
    (
        "[break_glass]\nwho = \"role:a\"",
        2,
        "break_glass.max",
        "missing",
    ),
    (
        "[break_glass]\nwho = \"role:a\"\nmax = \"2d\"",
        4,
        "break_glass.max",
        "at most 1d",
    ),
    (
        "[break_glass]\nwho = \"role:a\"\nmax = \"0s\"",
        4,
        "break_glass.max",
        "more than nothing",
    ),
];

/// The same in a rule, which begins in the second line and has its own fields from the fifth.
const RULE_MISTAKES: &[(&str, &str, &str)] = &[
    ("stages = []", "ask[0].stages", "the list is empty"),
    ("stages = \"owner\"", "ask[0].stages", "a list of texts"),
    (
        "stages = [\"owners\"]",
        "ask[0].stages[0]",
        "did you mean `owner`",
    ),
    (
        "stages = [\"nobody\"]",
        "ask[0].stages[0]",
        "[stages.nobody]",
    ),
    ("stages = [\"owner\", \"owner\"]", "ask[0].stages", "twice"),
    (
        "stages = [\"owner\"]\nalternatives = [[]]",
        "ask[0].alternatives[0]",
        "the list is empty",
    ),
    (
        "stages = [\"owner\"]\nalternatives = []",
        "ask[0].alternatives",
        "the list is empty",
    ),
    (
        "stages = [\"owner\"]\nalternatives = [\"owner\"]",
        "ask[0].alternatives[0]",
        "a list of lists",
    ),
    (
        "alternatives = [[\"owner\"]]",
        "ask[0].alternatives",
        "`stages`",
    ),
    (
        "reason_required = true",
        "ask[0].reason_required",
        "`stages`",
    ),
    (
        "stages = [\"owner\"]\nreason_required = \"yes\"",
        "ask[0].reason_required",
        "true or false",
    ),
    ("stage = \"owner\"", "ask[0].stage", "did you mean `stages`"),
];

#[test]
fn each_mistake_names_its_place_and_its_fix() {
    let check = |sources: &[Source], line: Option<u32>, field: &str, fix: &str| {
        let found = problems(sources);
        let [one] = found.as_slice() else {
            panic!("{field}: {found:?}");
        };
        assert_eq!(one.field, field, "{one}");
        assert!(one.message.contains(fix), "{one}");
        assert!(line.is_none_or(|line| line == one.line), "{one}");
    };
    for (text, line, field, fix) in MISTAKES {
        check(&[source(Origin::User, text)], Some(*line), field, fix);
    }
    let rule = "[[ask]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git\"]\n";
    for (text, field, fix) in RULE_MISTAKES {
        let user = source(Origin::User, &format!("{rule}{text}\n"));
        check(&[organisation(""), user], None, field, fix);
    }
    let allow = rule.replace("ask", "allow");
    for key in [
        "stages = [\"owner\"]",
        "reason_required = true",
        "alternatives = [[\"owner\"]]",
    ] {
        let user = source(Origin::User, &format!("{allow}{key}\n"));
        let field = format!("allow[0].{}", key.split(' ').next().unwrap_or_default());
        check(
            &[organisation(""), user],
            Some(6),
            &field,
            "only an [[ask]] rule",
        );
    }
}

#[test]
fn a_review_has_its_bounds() {
    let stages = |count: usize, need: u32| {
        let one = |n| format!("[stages.s{n}]\nwho = \"role:r{n}\"\nneed = {need}\n");
        (0..count).map(one).collect::<String>()
    };
    let names = |count: usize| {
        format!(
            "{:?}",
            (0..count).map(|n| format!("s{n}")).collect::<Vec<_>>()
        )
    };
    let rule = |stages: &str, path: &str| {
        format!(
            "[[ask]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git\"]\nstages = {path}\n{stages}"
        )
    };
    for (count, need, fits) in [(16, 2, true), (17, 1, false), (2, 16, true), (3, 16, false)] {
        let text = rule(&stages(count, need), &names(count));
        let loaded = load(&[source(Origin::User, &text)], &HostSets::default());
        assert_eq!(loaded.is_ok(), fits, "{count} stages of {need}");
    }
}

// keeps invariant: stages-only-tighten
#[test]
fn no_lower_layer_weakens_a_stage() {
    let above = organisation(PUSH);
    for weaker in [
        "[stages.security]\nwho = \"role:security\"\nneed = 1\nstrength = \"passkey\"",
        "[stages.security]\nwho = \"role:everybody\"\nneed = 2\nstrength = \"passkey\"",
        "[stages.security]\nwho = \"role:security\"\nneed = 2\nstrength = \"session\"",
        "[stages.security]\nwho = \"role:security\"\nneed = 2\nstrength = \"key\"",
        "[stages.security]\nwho = \"role:security\"\nneed = 2\nveto = 9\nstrength = \"passkey\"",
        "[stages.security]\nwho = \"role:security\"\nneed = 3\nstrength = \"passkey\"",
    ] {
        for below in [Origin::User, Origin::Session] {
            let found = problems(&[above.clone(), source(below, weaker)]);
            let [one] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert_eq!((one.line, one.field.as_str()), (2, "stages.security"));
            assert!(one.message.contains("organisation.toml:5"), "{one}");
        }
    }
    // The same again changes nothing, and stages of its own are a layer's own.
    let own = "[stages.security]\nwho = \"role:security\"\nneed = 2\nstrength = \"passkey\"\n\
               [stages.mine]\nwho = \"role:me\"\n";
    let with = loaded(&[above.clone(), source(Origin::User, own)]);
    assert_eq!(review(&with, ASKED), review(&loaded(&[above]), ASKED));
    // A rule never takes a stage from a layer below it.
    let undefined = source(Origin::Organisation, PUSH);
    let found = problems(&[undefined, source(Origin::User, STAGES)]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|one| {
        one.message
            .contains("is no stage of this file or a layer above")
    }));
}

// keeps invariant: stages-only-tighten
#[test]
fn a_glass_is_for_rules_of_its_own_layer_and_below() {
    let glass = "[break_glass]\nwho = \"role:lead\"\nmax = \"30m\"\n";
    let pull = PUSH.replace("\"push\", \"**\"", "\"pull\"");
    let below = source(Origin::User, &format!("{glass}{pull}"));
    let policy = loaded(&[organisation(PUSH), below]);
    // A user's glass opens no rule of the organisation, but his own.
    assert_eq!(review(&policy, ASKED).break_glass, None);
    let own = review(&policy, "exec git pull").break_glass;
    let own = own.unwrap_or_else(|| panic!("no glass"));
    assert_eq!(
        (own.role.0.as_str(), own.max_ms, own.strength),
        ("lead", 1_800_000, Strength::Passkey)
    );
    // That of the organisation is for both, and stays as it is.
    let above = organisation(&format!("{PUSH}{glass}"));
    let policy = loaded(&[above.clone(), source(Origin::User, &pull)]);
    assert!(review(&policy, ASKED).break_glass.is_some());
    assert!(review(&policy, "exec git pull").break_glass.is_some());
    let wider = source(Origin::User, &glass.replace("30m", "3h"));
    let found = problems(&[above, wider]);
    assert!(
        found.iter().any(|one| one.field == "break_glass"),
        "{found:?}"
    );
}

#[test]
fn rules_together_ask_all_whom_each_asks() {
    let and = |rule: &str| {
        let below = source(Origin::User, rule);
        loaded(&[organisation(PUSH), below])
    };
    let rule = |more: &str| {
        format!("[[ask]]\nid = \"too\"\nwhat = \"exec\"\ncommand = [\"git\", \"**\"]\n{more}\n")
    };
    let own = and(&rule(
        "stages = [\"legal\"]\n[stages.legal]\nwho = \"role:legal\"",
    ));
    let who = "owner, then two of security, then legal; or manager, then legal";
    assert_eq!(review(&own, ASKED).in_words(), who);
    // A stage that both have is asked once, and what goes through all of a shorter way is no way.
    let same = and(&rule("stages = [\"owner\", \"manager\"]"));
    assert_eq!(review(&same, ASKED).in_words(), "manager, then owner");
    // A question without stages does not let anybody else answer.
    let plain = and(&rule("expires = \"1m\""));
    assert_eq!(
        review(&plain, ASKED).in_words(),
        "owner, then two of security; or manager"
    );
    // Nor does an allow of a lower layer.
    let allow = and(
        "[[allow]]\nid = \"all\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"origin\", \"main\"]\n",
    );
    assert_eq!(decide(&allow, ASKED).verdict, Verdict::Ask);
}

#[test]
fn what_no_question_can_ask_is_denied() {
    let stages = |layer: &str| {
        let one = |n| format!("[stages.{layer}{n}]\nwho = \"role:r\"\nneed = 2\n");
        (0..9).map(one).collect::<String>()
    };
    let rule = |layer: &str| {
        let names: Vec<String> = (0..9).map(|n| format!("{layer}{n}")).collect();
        let rule = "[[ask]]\nwhat = \"exec\"\ncommand = [\"git\", \"**\"]\n";
        format!(
            "{rule}id = \"{layer}\"\nstages = {names:?}\n{}",
            stages(layer)
        )
    };
    let one = source(Origin::Organisation, &rule("a"));
    let decision = decide(&loaded(std::slice::from_ref(&one)), ASKED);
    assert_eq!(decision.verdict, Verdict::Ask);
    let decision = decide(&loaded(&[one, source(Origin::User, &rule("b"))]), ASKED);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(
        decision
            .reason
            .contains("`a`, `b` do not fit into one question"),
        "{decision:?}"
    );
    assert!(decision.stage.is_none());
}

#[test]
fn a_test_of_a_policy_says_whom_a_question_asks() {
    let with = |test: &str| {
        organisation(&format!(
            "{PUSH}[tests.push]\nask = [\"{ASKED}\"]\n{test}\n"
        ))
    };
    let exact = "stages = [\"owner\", \"security\"]\nalternatives = [[\"manager\"]]";
    loaded(&[with(exact)]);
    loaded(&[with("")]);
    for (wrong, found) in [
        (
            "stages = [\"owner\", \"security\"]",
            "expected `owner, then security`",
        ),
        (
            "stages = [\"security\", \"owner\"]\nalternatives = [[\"manager\"]]",
            "expected `security, then owner` or `manager`",
        ),
        (
            "stages = [\"owner\"]\nalternatives = [[\"manager\"]]",
            "asks `owner, then security` or `manager`",
        ),
    ] {
        let problems = problems(&[with(wrong)]);
        let [one] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(
            one.message.starts_with("test failed") && one.message.contains(found),
            "{one}"
        );
    }
    let nobody = organisation(
        "[[ask]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"git\", \"**\"]\n\
         [tests.t]\nask = [\"exec git push\"]\nstages = [\"owner\"]\n",
    );
    let found = problems(&[nobody]);
    assert!(
        found
            .iter()
            .any(|one| one.message.contains("asks nobody in a role")),
        "{found:?}"
    );
    // Without a line of `ask` it would check nothing.
    let idle = organisation(&format!(
        "{PUSH}[tests.t]\ndeny = [\"exec x\"]\nstages = [\"owner\"]\n"
    ));
    let found = problems(&[idle]);
    assert!(
        found.iter().any(|one| one.field == "tests.t.stages"),
        "{found:?}"
    );
    // A lower layer that asks more people does not break the tests of one above.
    let more =
        "[[ask]]\nid = \"m\"\nwhat = \"exec\"\ncommand = [\"git\", \"**\"]\nstages = [\"owner\"]\n";
    loaded(&[with(exact), source(Origin::User, more)]);
}

fn id(number: u32) -> ApprovalId {
    ApprovalId::from_random(number)
}

const NOW: UnixMillis = UnixMillis(1_000);
const LATER: UnixMillis = UnixMillis(2_000);

// keeps invariant: only-people-answer-stages
#[test]
fn nobody_else_answers_a_rule_with_stages() {
    let policy = loaded(&[organisation(PUSH)]);
    let (request, revision) = (request(ASKED), policy.revision());
    let decision = decide(&policy, ASKED);
    let mut grants = Grants::new();
    let plain = grants.grant(id(1), &request, &decision, Scope::Once, revision, NOW);
    assert!(matches!(plain, Err(GrantError::Reviewed(_))), "{plain:?}");
    let found = grants.matching(&request, revision, NOW);
    assert_eq!(policy.decide(&request, &found).verdict, Verdict::Ask);
    // What people have allowed holds until they said, and as far as the rule lets it.
    let wide = (Scope::Session, LATER);
    let refused = grants.grant_reviewed(id(1), &request, &decision, wide, revision, NOW);
    assert!(
        matches!(refused, Err(GrantError::TooWide { .. })),
        "{refused:?}"
    );
    let past = grants.grant_reviewed(
        id(1),
        &request,
        &decision,
        (Scope::Once, NOW),
        revision,
        NOW,
    );
    assert!(matches!(past, Err(GrantError::Past)), "{past:?}");
    let granted = grants.grant_reviewed(
        id(1),
        &request,
        &decision,
        (Scope::Once, LATER),
        revision,
        NOW,
    );
    assert_eq!(granted, Ok(()));
    for (now, verdict) in [(NOW, Verdict::Allow), (LATER, Verdict::Ask)] {
        let found = grants.matching(&request, revision, now);
        assert_eq!(policy.decide(&request, &found).verdict, verdict, "{now:?}");
    }
    let found = grants.matching(&request, revision, NOW);
    assert_eq!(grants.consume(&request, &found, LATER), None);
    assert_eq!(grants.consume(&request, &found, NOW), Some(id(1)));
}

// keeps invariant: only-people-answer-stages
#[test]
fn an_answer_lends_nothing_that_asks_others() {
    let asks = |id: &str, host: &str, stages: &str| {
        format!("[[ask]]\nid = \"{id}\"\nwhat = \"net\"\nhosts = [\"{host}\"]\n{stages}\n")
    };
    let rules = [
        asks("plain", "plain.test", ""),
        asks("owner", "owner.test", "stages = [\"owner\"]"),
        asks("both", "both.test", "stages = [\"owner\", \"manager\"]"),
        asks(
            "either",
            "either.test",
            "stages = [\"owner\"]\nalternatives = [[\"manager\"]]",
        ),
    ];
    let policy = loaded(&[organisation(&rules.concat())]);
    let line = |host: &str| format!("net {host}.test:443");
    let revision = policy.revision();
    // Who has answered one question has answered the other if each way to the first goes through it.
    for (given, wanted, lends) in [
        ("plain", "plain", true),
        ("plain", "owner", false),
        ("owner", "plain", true),
        ("owner", "owner", true),
        ("owner", "both", false),
        ("both", "owner", true),
        ("owner", "either", true),
        ("either", "owner", false),
        ("both", "either", true),
    ] {
        let (answered, asked) = (
            decide(&policy, &line(given)),
            decide(&policy, &line(wanted)),
        );
        let request_of = |host| request(&line(host));
        let mut grants = Grants::new();
        let granted = if answered.review().is_some() {
            let scope = (Scope::Session, LATER);
            grants.grant_reviewed(id(1), &request_of(given), &answered, scope, revision, NOW)
        } else {
            grants.grant(
                id(1),
                &request_of(given),
                &answered,
                Scope::Session,
                revision,
                NOW,
            )
        };
        assert_eq!(granted, Ok(()));
        let lent = grants.lend(&id(1), &request_of(wanted), &asked, revision, NOW);
        assert_eq!(lent.is_some(), lends, "{given} for {wanted}");
        let verdict = lent.map(|lent| policy.decide(&request_of(wanted), &lent).verdict);
        assert!(verdict.is_none_or(|verdict| verdict == Verdict::Allow));
        let late = grants.lend(&id(1), &request_of(wanted), &asked, revision, LATER);
        assert!(late.is_none() || answered.review().is_none());
    }
}

#[test]
fn a_decision_with_stages_is_the_same_after_it_was_written() {
    let glass = "[break_glass]\nwho = \"role:lead\"\nmax = \"30m\"\n";
    let policy = loaded(&[organisation(&format!("{PUSH}{glass}"))]);
    let decision = decide(&policy, ASKED);
    let text = serde_json::to_string(&decision).unwrap_or_else(|error| panic!("{error}"));
    let read: Decision = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, decision);
    let plain = decide(&loaded(&[organisation("")]), ASKED);
    let text = serde_json::to_string(&plain).unwrap_or_else(|error| panic!("{error}"));
    assert!(!text.contains("review"), "{text}");
}

#[test]
fn whom_nobody_asks_is_a_warning() {
    let warnings = |sources: &[Source]| -> Vec<String> {
        loaded(sources)
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let glass = "[break_glass]\nwho = \"role:lead\"\nmax = \"30m\"\n";
    assert_eq!(warnings(&[organisation(PUSH)]), [""; 0]);
    let unused = warnings(&[organisation(glass)]);
    assert_eq!(unused.len(), 4, "{unused:?}");
    for (line, part) in [
        (3, "stages.owner: no rule asks it"),
        (5, "stages.security"),
        (9, "stages.manager"),
        (12, "break_glass: no rule"),
    ] {
        let place = format!("organisation.toml:{line}");
        let found = unused
            .iter()
            .any(|one| one.contains(&place) && one.contains(part));
        assert!(found, "{place} {part}: {unused:?}");
    }
    // A rule of a lower layer is enough.
    let below = source(Origin::User, PUSH);
    assert_eq!(warnings(&[organisation(glass), below]), [""; 0]);
}
