//! Stages that wait or ask others later, and what the automatic reviewer may allow: how they are written, and
//! what two rules come to together.

#![expect(clippy::panic, reason = "tests")]

use stockade_policy::{
    Approvals, AskStage, HostSets, Origin, Policy, Probe, Reviewer, Source, load,
};
use stockade_types::Risk;

const STAGES: &str = r#"
[stages.owner]
who = "role:code-owner"
wait = "30s"
[stages.security]
who = "role:security"
need = 2
escalate_after = "5m"
escalate_to = "role:on-call"
"#;

fn sources(all: &[(Origin, &str)]) -> Vec<Source> {
    let one = |(origin, text): &(Origin, &str)| Source {
        origin: *origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{text}"),
    };
    all.iter().map(one).collect()
}

fn loaded(all: &[(Origin, &str)]) -> Policy {
    load(&sources(all), &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn mistakes(text: &str) -> String {
    match load(&sources(&[(Origin::User, text)]), &HostSets::default()) {
        Ok(_) => panic!("it loads: {text}"),
        Err(problems) => problems.to_string(),
    }
}

fn asked(policy: &Policy, line: &str) -> AskStage {
    let probe = Probe::parse(line).unwrap_or_else(|error| panic!("{error}"));
    let request = probe.requests().first().cloned();
    let request = request.unwrap_or_else(|| panic!("{line}"));
    let decision = policy.decide(&request, &Approvals::none());
    let stage = decision.stage.clone();
    stage.unwrap_or_else(|| panic!("nobody is asked: {decision:?}"))
}

fn rule(id: &str, words: &str, more: &str) -> String {
    format!("[[ask]]\nid = \"{id}\"\nwhat = \"exec\"\ncommand = [{words}]\n{more}\n")
}

const PUSH: &str = "\"git\", \"push\", \"**\"";

#[test]
fn stages_say_when_others_are_asked_and_from_when_a_yes_counts() {
    let text = format!(
        "{STAGES}{}",
        rule(
            "push",
            PUSH,
            "stages = [\"owner\", \"security\"]\nexpires = \"15m\""
        )
    );
    let policy = loaded(&[(Origin::Organisation, &text)]);
    let review = asked(&policy, "exec git push").review;
    let review = review.unwrap_or_else(|| panic!("nobody in a role"));
    assert_eq!(
        review.in_words(),
        "owner (not before 30s), then two of security (after 5m also on-call)"
    );
    let security = review
        .stage("security")
        .and_then(|stage| stage.escalation.clone());
    let then = security.unwrap_or_else(|| panic!("nobody else"));
    assert_eq!((then.after_ms, then.role.0.as_str()), (300_000, "on-call"));
    assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
    // A question that is over before it could be answered, and one that ends before others are asked.
    let over = text.replace("15m", "30s");
    let said = mistakes(&over);
    assert!(
        said.contains("its stages wait for 30s") && said.contains("`expires`"),
        "{said}"
    );
    let early = loaded(&[(Origin::Organisation, &text.replace("15m", "5m"))]);
    let warned = format!("{:?}", early.warnings());
    assert!(warned.contains("`escalate_to` is never asked"), "{warned}");
}

#[test]
fn what_the_reviewer_may_allow_is_the_least_of_all_rules() {
    let text = [
        rule(
            "push",
            PUSH,
            "reviewer = \"bot\"\nreviewer_allows = \"high\"",
        ),
        rule(
            "git",
            "\"git\", \"**\"",
            "reviewer = \"bot-then-human\"\nreviewer_allows = \"low\"",
        ),
        rule(
            "kube",
            "\"kubectl\", \"**\"",
            "reviewer = \"bot\"\nreviewer_allows = \"high\"",
        ),
        rule(
            "deny",
            "\"kubectl\", \"delete\", \"**\"",
            "reviewer = \"bot\"",
        ),
        rule("people", "\"kubectl\", \"drain\", \"**\"", ""),
    ]
    .concat();
    let policy = loaded(&[(Origin::User, &text)]);
    assert!(policy.asks_reviewer());
    for (line, reviewer, allows) in [
        ("exec git push", Reviewer::BotThenHuman, Some(Risk::Low)),
        ("exec kubectl apply", Reviewer::Bot, Some(Risk::High)),
        ("exec kubectl delete pod", Reviewer::Bot, None),
        ("exec kubectl drain node", Reviewer::Human, None),
    ] {
        let stage = asked(&policy, line);
        assert_eq!(
            (stage.reviewer, stage.reviewer_allows),
            (reviewer, allows),
            "{line}"
        );
    }
    assert!(!loaded(&[(Origin::User, &rule("people", PUSH, ""))]).asks_reviewer());
    for (more, said) in [
        ("reviewer_allows = \"low\"", "only people answer the rule"),
        (
            "reviewer = \"bot\"\nreviewer_allows = \"critical\"",
            "low, medium, high",
        ),
        ("reviewer = \"bot\"\nstages = [\"owner\"]", "bot-then-human"),
        (
            "reviewer = \"bot-then-human\"\nreviewer_allows = \"low\"\nstages = [\"owner\"]",
            "only the people of its stages",
        ),
    ] {
        let found = mistakes(&format!("{STAGES}{}", rule("push", PUSH, more)));
        assert!(found.contains(said), "{more}: {found}");
    }
}

#[test]
fn one_layer_names_the_model_and_no_lower_one() {
    let table = "[reviewer]\nendpoint = \"https://models.test/v1\"\nmodel = \"a\"\n";
    let other = "[reviewer]\nendpoint = \"https://other.test/v1\"\nmodel = \"a\"\n";
    let policy = loaded(&[(Origin::Organisation, table), (Origin::User, table)]);
    let settings = policy.settings();
    for origin in [
        Origin::Organisation,
        Origin::User,
        Origin::Session,
        Origin::Builtin,
    ] {
        assert!(settings.reviewer_for(origin).is_some(), "{origin}");
    }
    let policy = loaded(&[(Origin::User, table)]);
    let settings = policy.settings();
    assert!(settings.reviewer_for(Origin::Organisation).is_none());
    assert!(settings.reviewer_for(Origin::Session).is_some());
    let both = sources(&[(Origin::Organisation, table), (Origin::User, other)]);
    match load(&both, &HostSets::default()) {
        Ok(_) => panic!("a user's model replaces that of the organisation"),
        Err(problems) => assert!(
            problems.to_string().contains("organisation layer"),
            "{problems}"
        ),
    }
    for (more, said) in [
        ("key_file = \"~/k\"\nkey_variable = \"K\"", "in one place"),
        ("timeout = \"3m\"", "at most"),
        ("budget = 10001", "more than 10000"),
        ("max_risk = \"critical\"", "low, medium, high"),
    ] {
        let found = mistakes(&format!("{table}{more}\n"));
        assert!(found.contains(said), "{more}: {found}");
    }
    let plain = mistakes("[reviewer]\nendpoint = \"http://models.test/v1\"\nmodel = \"a\"\n");
    assert!(plain.contains("without TLS"), "{plain}");
    assert!(mistakes("[reviewer]\nmodel = \"a\"\n").contains("endpoint"));
}
