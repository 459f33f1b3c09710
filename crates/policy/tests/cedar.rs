//! Rules in Cedar: what they match, that they only tighten, and their mistakes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, prop_assert, proptest},
    sample::{select, subsequence},
};
use stockade_policy::{
    Approvals, Grants, HostSets, NetRequest, Origin, Policy, Probe, Request, Scope, Source, load,
};
use stockade_types::{ApprovalId, RawText, Subject, UnixMillis, Verdict};

use crate::oracle;

const NOW: UnixMillis = UnixMillis(1);

fn source(origin: Origin, text: &str) -> Source {
    Source {
        origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{text}"),
    }
}

fn cedar(id: &str, text: &str) -> String {
    format!("[[cedar]]\nid = \"{id}\"\ntext = '''{text}'''\n")
}

const HOSTS: &str = "[[allow]]\nid = \"hosts\"\nwhat = \"net\"\nhosts = [\"a.test\", \"b.test\"]\n";

fn policy(layers: &[(Origin, &str)]) -> Policy {
    let sources: Vec<Source> = layers.iter().map(|(o, text)| source(*o, text)).collect();
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> String {
    let loaded = load(&[source(Origin::User, text)], &HostSets::default());
    loaded.unwrap_err().to_string()
}

fn verdict(policy: &Policy, request: &Request) -> Verdict {
    policy.decide(request, &Approvals::none()).verdict
}

fn line(policy: &Policy, line: &str) -> Verdict {
    policy.rehearse(&Probe::parse(line).unwrap()).1.verdict
}

fn connection(host: &str, exe: &str) -> Request {
    Request::Net(NetRequest {
        host: host.parse().unwrap(),
        port: stockade_types::Port::new(443).unwrap(),
        subject: Subject {
            exe: RawText::from(exe),
            ..Subject::default()
        },
    })
}

#[test]
fn a_program_that_nobody_can_name_could_be_the_one_that_is_meant() {
    let only_git = cedar(
        "only-git",
        r#"forbid (principal, action == Action::"net", resource)
           when { context.host == "a.test" } unless { context.program == "/usr/bin/git" };"#,
    );
    let no_curl = cedar(
        "no-curl",
        r#"forbid (principal, action == Action::"net", resource)
           when { context.host == "b.test" && context.program like "*/curl" };"#,
    );
    let policy = policy(&[
        (Origin::Organisation, &format!("{only_git}{no_curl}")),
        (Origin::User, HOSTS),
    ]);
    for (host, exe, expected) in [
        ("a.test", "/usr/bin/git", Verdict::Allow),
        ("a.test", "/usr/bin/other", Verdict::Deny),
        ("a.test", "/usr/bin/git (deleted)", Verdict::Deny),
        ("a.test", "", Verdict::Deny),
        ("b.test", "/usr/bin/other", Verdict::Allow),
        ("b.test", "/usr/bin/curl", Verdict::Deny),
        ("b.test", "/usr/bin/curl (deleted)", Verdict::Deny),
        ("b.test", "", Verdict::Deny),
    ] {
        assert_eq!(
            verdict(&policy, &connection(host, exe)),
            expected,
            "{host} {exe}"
        );
    }
    // A name is looked up before the connecting program is known, so only a certain deny counts.
    assert_eq!(line(&policy, "name a.test"), Verdict::Allow);
    let never = cedar(
        "never",
        r#"forbid (principal, action in Action::"net", resource) when { context.host == "a.test" };"#,
    );
    let policy = self::policy(&[(Origin::Organisation, &never), (Origin::User, HOSTS)]);
    assert_eq!(line(&policy, "name a.test"), Verdict::Deny);
    assert_eq!(line(&policy, "name b.test"), Verdict::Allow);
    // A program that may connect because of its identity must not be controlled by another one.
    assert!(!policy.trusts_program(&"/usr/bin/git".into()));
    let policy = self::policy(&[(Origin::Organisation, &only_git)]);
    assert!(policy.trusts_program(&"/usr/bin/git".into()));
    assert!(!policy.trusts_program(&"/usr/bin/other".into()));
    assert!(policy.names_programs_of_connections());
}

#[test]
fn an_answer_is_needed_and_opens_nothing_by_itself() {
    let asks = cedar(
        "asks",
        r#"@verdict("ask") forbid (principal, action in Action::"net", resource)
           when { context.host like "*.test" };"#,
    );
    let text = format!("{asks}scope_max = \"once\"\n");
    let policy = policy(&[(Origin::Organisation, &text), (Origin::User, HOSTS)]);
    // No rule allows this one, so there is nothing to ask about.
    assert_eq!(line(&policy, "net c.test:443"), Verdict::Deny);
    // No exception, however exact; the user's own question is answered as always.
    let asked = connection("a.test", "/usr/bin/curl");
    let decision = policy.decide(&asked, &Approvals::none());
    assert_eq!(decision.verdict, Verdict::Ask);
    assert_eq!(decision.rule.as_ref().unwrap().as_str(), "asks");
    assert_eq!(decision.origin, Some(Origin::Organisation));
    let mut grants = Grants::new();
    let id = ApprovalId::from_random(1);
    let revision = policy.revision();
    let wide = grants.grant(id.clone(), &asked, &decision, Scope::Session, revision, NOW);
    assert!(wide.is_err(), "wider than the rule allows");
    grants
        .grant(id, &asked, &decision, Scope::Once, revision, NOW)
        .unwrap();
    let approvals = grants.matching(&asked, revision, NOW);
    assert_eq!(policy.decide(&asked, &approvals).verdict, Verdict::Allow);
    // The connection's answer also covers its requests.
    let request = Probe::parse("net GET http://a.test:443/x").unwrap();
    let Some(Request::Http(mut http)) = request.requests().last().cloned() else {
        panic!("a line with a method is a request");
    };
    http.subject.exe = "/usr/bin/curl".into();
    let carried = Request::Http(http);
    assert_eq!(policy.decide(&carried, &approvals).verdict, Verdict::Allow);
    assert_eq!(verdict(&policy, &carried), Verdict::Ask);
    let other = connection("b.test", "/usr/bin/curl");
    assert_eq!(policy.decide(&other, &approvals).verdict, Verdict::Ask);
}

#[test]
fn a_rule_that_fails_denies() {
    let overflow = cedar(
        "overflow",
        r#"forbid (principal, action in Action::"net", resource)
           when { context.port * 9223372036854775807 == 0 };"#,
    );
    let policy = policy(&[(Origin::User, &format!("{overflow}{HOSTS}"))]);
    let decision = policy.decide(&connection("a.test", "/x"), &Approvals::none());
    assert_eq!(decision.verdict, Verdict::Deny);
    assert!(decision.reason.contains("overflow"), "{}", decision.reason);
    assert_eq!(line(&policy, "file write src/a"), Verdict::Allow);
}

#[test]
fn a_deny_about_requests_leaves_nothing_that_cannot_be_read() {
    let text = cedar(
        "posts",
        r#"forbid (principal, action == Action::"http", resource)
           when { context.host == "a.test" && context.method == "POST" };"#,
    );
    let policy = policy(&[(Origin::User, &format!("{text}{HOSTS}"))]);
    let http_only = |host| {
        policy
            .decide(&connection(host, "/x"), &Approvals::none())
            .http_only
    };
    assert!(http_only("a.test"));
    assert!(!http_only("b.test"));
}

#[test]
fn a_copy_of_a_named_program_is_looked_for_and_files_are_judged() {
    let text = cedar(
        "no-publish",
        r#"forbid (principal, action == Action::"exec", resource)
           when { context.names.contains("npm") && context.subcommands.contains("publish") };"#,
    ) + &cedar(
        "keys",
        r#"forbid (principal, action == Action::"file", resource) when { context.path like "*.pem" };"#,
    );
    let policy = policy(&[(Origin::User, &text)]);
    assert!(policy.command_names().contains(&"npm".to_owned()));
    assert!(policy.restricts_files());
    assert_eq!(line(&policy, "file write x.PEM"), Verdict::Deny);
    assert_eq!(line(&policy, "file write x.rs"), Verdict::Allow);
}

#[test]
fn an_exemption_means_what_it_says_and_no_other_spelling() {
    let text = cedar(
        "readme",
        r#"forbid (principal, action == Action::"file", resource) unless { context.path == "README.md" };"#,
    );
    let policy = policy(&[(Origin::User, &text)]);
    assert_eq!(line(&policy, "file write README.md"), Verdict::Allow);
    assert_eq!(line(&policy, "file write readme.md"), Verdict::Deny);
    assert_eq!(line(&policy, "file write other"), Verdict::Deny);
}

#[test]
fn mistakes_are_named_at_their_place() {
    let told = |text: &str| problems(&cedar("x", text));
    let head = r#"(principal, action == Action::"net", resource)"#;
    for (text, place, message) in [
        (format!("permit {head};"), "4:8", "only tightens"),
        (format!("forbid {head}\nwhen {{ context.prot == 25 }};"), "5:8", "attribute `prot`"),
        (format!("forbid {head}\nwhen {{ context.port == \"25\" }};"), "5:8", "type"),
        (format!("forbid {head}\nwhen {{ context.port = 25 }};"), "5:8", ""),
        ("forbid (principal, action == Action::\"nett\", resource);".to_owned(), "4:", "nett"),
        (format!("forbid {head}; forbid {head};"), "4:", ""),
        (format!("@verdict(\"maybe\") forbid {head};"), "4:8", "neither `deny` nor `ask`"),
        (format!("@id(\"y\") forbid {head};"), "4:8", "means nothing here"),
        (
            "forbid (principal, action == Action::\"http\", resource) when { context.method == \"PUT\" };".to_owned(),
            "4:8",
            "compare `context.host` too",
        ),
        (
            "forbid (principal, action == Action::\"exec\", resource) unless { context.names.contains(\"git\") };".to_owned(),
            "4:8",
            "exempt by `context.program`",
        ),
        (
            "forbid (principal, action == Action::\"exec\", resource) when { !context.subcommands.contains(\"x\") };".to_owned(),
            "4:8",
            "exempt by `context.program`",
        ),
        (
            "forbid (principal, action == Action::\"exec\", resource) unless { context.argv.contains(\"-n\") };".to_owned(),
            "4:8",
            "exempt by `context.program`",
        ),
        (
            "forbid (principal, action, resource) when { context.port == 25 };".to_owned(),
            "4:",
            "port",
        ),
    ] {
        let told = told(&text);
        assert!(told.contains(&format!("user.toml:{place}")), "{text}\n{told}");
        assert!(told.contains("cedar[0].text") && told.contains(message), "{text}\n{told}");
    }
    let at_most = vec!["context.port == 1"; 40].join(" || ");
    policy(&[(
        Origin::User,
        &cedar("x", &format!("forbid {head} when {{ {at_most} }};")),
    )]);
    for deep in [
        vec!["context.port == 1"; 2_000].join("||"),
        format!("{}true{}", "(".repeat(3_000), ")".repeat(3_000)),
        "context".to_owned() + &".host".repeat(1_500),
        "if true then true else ".repeat(300) + "true",
        vec!["1"; 3_000].join("+"),
        "!".repeat(3_000) + "true",
    ] {
        let text = format!(
            "forbid {head} when {{ {} }};",
            deep.get(..7_000.min(deep.len())).unwrap()
        );
        let told = told(&text);
        assert!(told.contains("too many conditions"), "{told}");
    }
    let told = problems(&cedar("x", &"x".repeat(9_000)));
    assert!(told.contains("longer than 8192 bytes"), "{told}");
    let told = problems("[[cedar]]\nid = \"x\"\n");
    assert!(told.contains("cedar[0].text: missing"), "{told}");
    let told = problems(&(cedar("x", &format!("forbid {head};")) + "scope_max = \"once\"\n"));
    assert!(told.contains("cedar[0].scope_max"), "{told}");
    let twice = cedar("x", &format!("forbid {head};"));
    assert!(problems(&format!("{twice}{twice}")).contains("already used"));
}

#[test]
fn it_is_listed_with_its_text() {
    let text = cedar(
        "mail",
        "forbid (principal, action == Action::\"net\", resource)\nwhen { context.port == 25 };",
    );
    let policy = policy(&[(Origin::Organisation, &text)]);
    let rules = policy.rules();
    let rule = rules
        .iter()
        .find(|rule| rule.id.as_str() == "mail")
        .unwrap();
    assert_eq!(rule.verdict, Verdict::Deny);
    assert_eq!(rule.source, "organisation.toml:2");
    assert_eq!(
        rule.conditions,
        "cedar forbid (principal, action == Action::\"net\", resource) when { context.port == 25 };"
    );
    assert!(policy.to_cedar().contains("context.port == 25"));
}

const SOME: [&str; 8] = [
    r#"forbid (principal, action in Action::"net", resource) when { context.host like "*a.test" };"#,
    r#"@verdict("ask") forbid (principal, action in Action::"net", resource) when { context.port == 80 };"#,
    r#"@verdict("ask") forbid (principal, action, resource);"#,
    r#"forbid (principal, action == Action::"net", resource) unless { context.program like "/usr/*" };"#,
    r#"@verdict("ask") forbid (principal, action == Action::"http", resource) when { context.host == "a.test" && context.method == "POST" };"#,
    r#"forbid (principal, action == Action::"http", resource) when { context.host like "*" && context.path like "/admin*" };"#,
    r#"@verdict("ask") forbid (principal, action == Action::"exec", resource) when { context.subcommands.contains("push") };"#,
    r#"forbid (principal, action == Action::"file", resource) when { if context.path like "src/*" then context.access == "write" else false };"#,
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_rule_in_cedar_never_loosens(
        drafts in oracle::draft::drafts(oracle::draft::ALL),
        chosen in subsequence(SOME.to_vec(), 1..4),
        layer in select(vec![Origin::Organisation, Origin::User, Origin::Session]),
        requests in vec(oracle::requests::requests(), 8..16),
    ) {
        let kept = oracle::draft::kept(&drafts);
        let before = oracle::draft::policy(&kept);
        let rules: String = chosen
            .iter()
            .enumerate()
            .map(|(number, text)| cedar(&format!("c{number}"), text))
            .collect();
        let own = source(layer, &rules);
        let sources = [before.sources(), &[own]].concat();
        let after = load(&sources, &HostSets::default()).unwrap();
        for request in requests {
            let (a, b) = (
                before.decide(&request, &Approvals::none()),
                after.decide(&request, &Approvals::none()),
            );
            prop_assert!(b.verdict >= a.verdict, "{:?}\n{:?}\n{:?}", request, a, b);
            prop_assert!(
                b.http_only >= a.http_only || b.verdict > a.verdict,
                "{:?}\n{:?}\n{:?}", request, a, b
            );
        }
    }
}

#[test]
fn tool_calls_are_seen_by_name_server_effect_and_arguments() {
    let rules = cedar(
        "zone",
        "forbid (principal, action == Action::\"tool\", resource)
         when { context.tool == \"Deploy\" && context.arguments.contains(\"zone=prod\") };",
    ) + &cedar(
        "servers",
        "@verdict(\"ask\") forbid (principal, action == Action::\"tool\", resource)
         when { context.server != \"\" } unless { context.server == \"docs\" };",
    ) + &cedar(
        "runs",
        "forbid (principal, action == Action::\"tool\", resource)
         when { context.effect == \"execute\" && context.tool != \"Bash\" };",
    );
    let policy = policy(&[(Origin::User, &rules)]);
    assert!(policy.restricts_tools());
    for (text, expected) in [
        ("tool Read file_path=x", Verdict::Allow),
        ("tool Bash command=ls", Verdict::Allow),
        ("tool Edit zone=prod", Verdict::Allow),
        // Nobody says what it is for, so it could run something.
        ("tool Deploy zone=test", Verdict::Deny),
        ("tool Deploy zone=prod", Verdict::Deny),
        ("tool deploy ZONE=prod", Verdict::Deny),
        ("tool shell command=ls", Verdict::Deny),
        // The same for what a server has; and the second question is about its name.
        ("tool mcp:docs/read", Verdict::Deny),
    ] {
        assert_eq!(line(&policy, text), expected, "{text}");
    }
    let servers = cedar(
        "servers",
        "@verdict(\"ask\") forbid (principal, action == Action::\"tool\", resource)
         when { context.server != \"\" } unless { context.server == \"docs\" };",
    );
    let policy = self::policy(&[(Origin::User, &servers)]);
    for (text, expected) in [
        ("tool Bash command=ls", Verdict::Allow),
        ("tool mcp:docs/read", Verdict::Allow),
        ("tool mcp:other/read", Verdict::Ask),
        // Of `docs`, or of `docs__evil`: what cannot be known exempts nothing.
        ("tool mcp__docs__evil__read", Verdict::Ask),
    ] {
        assert_eq!(line(&policy, text), expected, "{text}");
    }
    let found = problems(&cedar(
        "no",
        "forbid (principal, action == Action::\"tool\", resource)
         unless { context.arguments.contains(\"safe=true\") };",
    ));
    assert!(found.contains("words that a program chooses"), "{found}");
}
