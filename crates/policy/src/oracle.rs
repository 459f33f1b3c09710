//! Property tests of decisions against a slow reference: all rules, no index, no Cedar.

use std::fmt::Write as _;

use proptest::{
    collection::vec,
    prelude::{
        Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    },
    sample::select,
};
use stockade_types::{RuleId, Verdict};

use crate::{
    Approvals, HostSets, Origin, Policy, Probe, Request, Source, load,
    rule::{Fit, Rule},
    view::{ExecView, FileView, HttpView, NetView, Programs, View},
};

#[derive(Clone, Debug)]
struct Draft {
    layer: Origin,
    effect: Verdict,
    body: String,
}

fn drafts(layers: &'static [Origin]) -> impl Strategy<Value = Vec<Draft>> {
    let host = select(vec![
        "a.test",
        "b.a.test",
        "c.b.a.test",
        "*.a.test",
        "**.a.test",
        "d.test",
        "192.0.2.1",
        "192.0.2.0/24",
        "10.0.0.1",
        "**",
    ]);
    let net = (
        vec(host, 1..3),
        select(vec!["", "[80]", "[8080]"]),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(hosts, ports, get, private)| {
            let mut text = format!("what = \"net\"\nhosts = {hosts:?}\n");
            if !ports.is_empty() {
                writeln!(text, "ports = {ports}").unwrap();
            }
            if get {
                text.push_str("methods = [\"GET\"]\n");
            }
            if private {
                text.push_str("private = true\n");
            }
            text
        });
    let command = select(vec![
        vec!["**"],
        vec!["git", "**"],
        vec!["git", "push", "**"],
        vec!["git", "push", "origin"],
        vec!["{git,ls}", "*"],
        vec!["*", "push", "**"],
        vec!["git", "**", "--force*", "**"],
        vec!["g*", "push"],
        vec!["git", "push", "**[--force ...]"],
        vec!["git", "*[...]", "*[-n origin]"],
    ]);
    let harmless = select(vec![
        vec![],
        vec!["git", "push", "-n"],
        vec!["git", "push", "**[...]", "-n", "**[...]"],
        vec!["ls", "**"],
    ]);
    let exec = (vec(command, 1..3), harmless).prop_map(|(commands, harmless)| {
        let mut text = format!("what = \"exec\"\ncommand = {commands:?}\n");
        if !harmless.is_empty() {
            writeln!(text, "unless = {harmless:?}").unwrap();
        }
        text
    });
    let file = vec(
        select(vec!["src/**", "src/a", "/etc/**", "*.rs", "**"]),
        1..3,
    )
    .prop_map(|paths| format!("what = \"file\"\npaths = {paths:?}\n"));
    let body = prop_oneof![4 => net, 3 => exec, 1 => file];
    let effect = select(vec![Verdict::Allow, Verdict::Ask, Verdict::Deny]);
    vec((select(layers.to_vec()), effect, body), 0..8).prop_map(|drafts| {
        drafts
            .into_iter()
            .map(|(layer, effect, body)| Draft {
                layer,
                effect,
                body,
            })
            .collect()
    })
}

const ALL: &[Origin] = &[
    Origin::Builtin,
    Origin::Organisation,
    Origin::User,
    Origin::Session,
];
const BELOW: &[Origin] = &[Origin::User, Origin::Session];

fn requests() -> impl Strategy<Value = Request> {
    let line = select(vec![
        "net a.test:443",
        "net a.test:80",
        "net b.a.test:80",
        "net b.a.test:8080",
        "net c.b.a.test:443",
        "net d.test:8080",
        "net e.test:443",
        "net 192.0.2.1:80",
        "net 192.0.2.9:443",
        "net 10.0.0.1:80",
        "net 169.254.169.254:80",
        "net GET http://a.test/x",
        "net POST http://a.test/x",
        "net POST http://b.a.test:8080/x",
        "exec git status",
        "exec git push",
        "exec git push origin",
        "exec git push origin --force",
        "exec git push -n",
        "exec git push origin -n",
        "exec git push -n --force",
        "exec git -c a=b push",
        "exec git -c a=b push -n",
        "exec git --unknown push -n",
        "exec ls x",
        "exec npm push",
        "name a.test",
        "name z.test",
        "name b.a.test",
        "file write src/a",
        "file write src/b.rs",
        "file create /etc/x",
    ]);
    (line, any::<bool>()).prop_map(|(line, last)| {
        let probe = Probe::parse(line).unwrap();
        let requests = probe.requests();
        let found = if last {
            requests.last()
        } else {
            requests.first()
        };
        found.unwrap().clone()
    })
}

/// Loads the drafts; those that the checks refuse (`**` in an allow, `private` in a deny, …) are
/// left out.
fn policy(drafts: &[Draft]) -> Policy {
    let source = |origin, rules: &[String]| Source {
        origin,
        name: format!("{origin}.toml"),
        text: format!("schema = 1\n{}", rules.concat()),
    };
    let mut files: Vec<(Origin, Vec<String>)> = ALL.iter().map(|o| (*o, Vec::new())).collect();
    for (number, draft) in drafts.iter().enumerate() {
        let text = format!(
            "[[{}]]\nid = \"r{number}\"\nreason = \"r\"\n{}",
            draft.effect, draft.body
        );
        let alone = source(draft.layer, std::slice::from_ref(&text));
        if load(&[alone], &HostSets::default()).is_ok() {
            files
                .iter_mut()
                .filter(|(o, _)| *o == draft.layer)
                .for_each(|(_, f)| f.push(text.clone()));
        }
    }
    let sources: Vec<Source> = files
        .iter()
        .map(|(origin, rules)| source(*origin, rules))
        .collect();
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The definition in the documentation of the crate, word by word.
fn reference(policy: &Policy, request: &Request) -> Verdict {
    match request {
        Request::Name(name) => {
            let host = stockade_types::Host::Name(name.name.clone());
            let known = policy.net_ports().into_iter().any(|port| {
                let view = NetView {
                    host: &host,
                    port,
                    program: Programs::Any,
                    http: None,
                };
                judge(policy, &View::Net(view), request) != Verdict::Deny
            });
            if known { Verdict::Allow } else { Verdict::Deny }
        }
        Request::Net(net) => {
            let view = NetView {
                host: &net.host,
                port: net.port.get(),
                program: Programs::Unknown,
                http: None,
            };
            judge(policy, &View::Net(view), request)
        }
        Request::Http(http) => {
            let view = NetView {
                host: &http.host,
                port: http.port.get(),
                program: Programs::Unknown,
                http: Some(HttpView::new(&http.method, http.path.as_bytes())),
            };
            judge(policy, &View::Net(view), request)
        }
        Request::Exec(exec) => judge(policy, &View::Exec(ExecView::new(exec)), request),
        Request::File(file) => judge(policy, &View::File(FileView { request: file }), request),
        Request::Port(_) => unreachable!("no rule is about ports"),
    }
}

fn judge(policy: &Policy, view: &View<'_>, request: &Request) -> Verdict {
    let mut now: Vec<(&Rule, Vec<usize>)> = Vec::new();
    let mut later: Vec<(&Rule, Vec<usize>)> = Vec::new();
    for rule in policy.rule_list() {
        let fits = |fit| -> Vec<usize> {
            (0..rule.patterns())
                .filter(|p| rule.fit(*p, view) == Ok(fit))
                .collect()
        };
        now.extend(Some((rule, fits(Fit::Now))).filter(|(_, p)| !p.is_empty()));
        later.extend(Some((rule, fits(Fit::Later))).filter(|(_, p)| !p.is_empty()));
    }
    let has = |list: &[(&Rule, Vec<usize>)], effect| list.iter().any(|(r, _)| r.effect == effect);
    if let View::Net(net) = view
        && let stockade_types::Host::Address(address) = net.host
    {
        let private = now
            .iter()
            .chain(&later)
            .any(|(r, _)| r.effect != Verdict::Deny && r.is_private());
        match crate::classify(*address) {
            crate::AddressClass::Metadata | crate::AddressClass::Unusable => return Verdict::Deny,
            crate::AddressClass::Private if !private => return Verdict::Deny,
            crate::AddressClass::Private | crate::AddressClass::Public => {}
        }
    }
    if has(&now, Verdict::Deny) {
        return Verdict::Deny;
    }
    let open = now
        .iter()
        .filter(|(rule, _)| rule.effect == Verdict::Ask)
        .any(|(ask, asked)| {
            !now.iter().chain(&later).any(|(allow, patterns)| {
                allow.effect == Verdict::Allow
                    && patterns
                        .iter()
                        .any(|pattern| allow.answers(*pattern, ask, asked))
            })
        });
    let file = matches!(request, Request::File(_));
    if open {
        return Verdict::Ask;
    }
    let opened = has(&later, Verdict::Allow) || has(&later, Verdict::Ask);
    if has(&now, Verdict::Allow) || opened || file {
        Verdict::Allow
    } else {
        Verdict::Deny
    }
}

/// Returns a name as the connections that it stands for: it is known where one port is open, and
/// a layer may speak about the ports that another has left out.
fn at_every_port(policy: &Policy, request: Request) -> Vec<Request> {
    let Request::Name(name) = &request else {
        return vec![request];
    };
    let at = |port| Probe::parse(&format!("net {}:{port}", name.name)).unwrap();
    let ports = policy.net_ports().into_iter();
    ports
        .flat_map(|port| at(port).requests().to_vec())
        .collect()
}

fn decide(policy: &Policy, request: &Request) -> Verdict {
    policy.decide(request, &Approvals::none()).verdict
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decisions_agree_with_the_reference(drafts in drafts(ALL), requests in vec(requests(), 1..12)) {
        let policy = policy(&drafts);
        for request in &requests {
            prop_assert_eq!(decide(&policy, request), reference(&policy, request), "{:?}", request);
        }
    }

    #[test]
    fn the_order_of_rules_does_not_matter(
        (drafts, shuffled) in drafts(ALL).prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle())),
        request in requests(),
    ) {
        let (one, other) = (policy(&drafts), policy(&shuffled));
        prop_assert_eq!(decide(&one, &request), decide(&other, &request));
    }

    #[test]
    fn no_lower_layer_widens_what_the_organisation_asks_or_denies(
        above in drafts(&[Origin::Organisation]),
        below in drafts(BELOW),
        request in requests(),
    ) {
        let alone = policy(&above);
        let both = policy(&[above, below].concat());
        for request in at_every_port(&both, request) {
            let alone = alone.decide(&request, &Approvals::none());
            let both = both.decide(&request, &Approvals::none());
            // Where the organisation has said nothing, others may speak.
            if alone.origin == Some(Origin::Organisation) && alone.verdict != Verdict::Allow {
                prop_assert!(both.verdict >= alone.verdict, "{:?} {:?}", alone, both);
            }
        }
    }

    /// What an ask leaves out is one of the forms that it names, in every way to read the command.
    #[test]
    fn only_what_is_named_is_left_out(
        options in vec(select(vec!["-n", "--dry-run", "-c", "a=b", "-C", "dir", "--x"]), 0..3),
        rest in vec(select(vec!["-n", "--dry-run", "--no-dry-run", "-o", "--", "push", "main"]), 0..4),
    ) {
        let all = Source {
            origin: Origin::User,
            name: "user.toml".to_owned(),
            text: "schema = 1\n[[allow]]\nid = \"all\"\nwhat = \"exec\"\ncommand = [\"**\"]\n\
                   [[ask]]\nid = \"push\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\n\
                   unless = [\"git\", \"push\", \"**[...]\", \"{-n,--dry-run}\", \"**[...]\"]\n"
                .to_owned(),
        };
        let policy = load(&[all], &HostSets::default()).unwrap();
        let line = format!("exec git {} push {}", options.join(" "), rest.join(" "));
        let request = Probe::parse(line.trim()).unwrap().requests().first().unwrap().clone();
        // Options in front with their values, as git reads them.
        let mut words = options.iter();
        let mut in_front = true;
        while let Some(word) = words.next() {
            in_front &= match *word {
                "-c" | "-C" => words.next().is_some(),
                word => word.starts_with('-'),
            };
        }
        let is_dry = |word: &&str| ["-n", "--dry-run"].contains(word);
        let plain = rest.iter().all(|word| is_dry(word) || !word.starts_with('-'));
        if in_front && plain && rest.iter().filter(|word| is_dry(word)).count() == 1 {
            prop_assert_eq!(decide(&policy, &request), Verdict::Allow, "{}", line);
        }
        if in_front && !(plain && rest.iter().any(is_dry)) {
            prop_assert_eq!(decide(&policy, &request), Verdict::Ask, "{}", line);
        }
    }

    #[test]
    fn another_deny_never_loosens(
        drafts in drafts(ALL),
        more in drafts(ALL),
        request in requests(),
    ) {
        let before = policy(&drafts);
        let mut all = drafts;
        all.extend(more.into_iter().filter(|draft| draft.effect == Verdict::Deny));
        let after = policy(&all);
        prop_assert!(decide(&after, &request) >= decide(&before, &request));
    }

    // keeps invariant: deny-wins
    #[test]
    fn a_deny_that_matches_wins(drafts in drafts(ALL), request in requests()) {
        let mut all = drafts;
        for body in [
            "what = \"net\"\nhosts = [\"**\", \"0.0.0.0/0\", \"::/0\"]\nports = [80, 443, 8080]\n",
            "what = \"exec\"\ncommand = [\"**\"]\n",
            "what = \"file\"\npaths = [\"**\"]\n",
        ] {
            all.push(Draft { layer: Origin::Session, effect: Verdict::Deny, body: body.to_owned() });
        }
        let decision = policy(&all).decide(&request, &Approvals::none());
        prop_assert_eq!(decision.verdict, Verdict::Deny);
    }
}

#[test]
fn rule_ids_of_controls_stand_where_the_numbers_say() {
    let ids: Vec<RuleId> = crate::controls::controls()
        .into_iter()
        .map(|rule| rule.id)
        .collect();
    let expected = [
        "metadata",
        "private-address",
        "never-reached",
        "protected",
        "view",
        "protected-content",
    ];
    assert!(ids.iter().map(RuleId::as_str).eq(expected), "{ids:?}");
}
