//! Property tests of decisions against a second, slow implementation of the documentation. It uses
//! the crate from outside, so it cannot share a matcher, an index or a table with it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod approved;
mod asked;
pub(crate) mod draft;
mod matching;
mod reference;
pub(crate) mod requests;

use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest},
    sample::select,
};
use stockade_policy::{
    Approvals, GrantError, Grants, HostSets, Origin, Policy, Probe, Request, Scope, Source, load,
};
use stockade_types::{ApprovalId, Host, UnixMillis, Verdict};

use approved::Given;
use draft::{ALL, BELOW, Body, Draft, drafts, kept, policy};
use requests::requests;

/// When answers are given; those with an end last ten milliseconds.
const START: UnixMillis = UnixMillis(1_000);

fn scopes() -> impl Strategy<Value = Scope> {
    select(vec![
        Scope::Once,
        Scope::Uses(3),
        Scope::Session,
        Scope::Until(UnixMillis(START.0 + 10)),
    ])
}

fn decide(policy: &Policy, request: &Request) -> Verdict {
    policy.decide(request, &Approvals::none()).verdict
}

/// The program and the reference, with the answers that each was given.
struct Pair {
    policy: Policy,
    rules: Vec<Draft>,
    grants: Grants,
    given: Vec<Given>,
}

impl Pair {
    fn new(drafts: &[Draft]) -> Self {
        let rules = kept(drafts);
        Self {
            policy: policy(&rules),
            rules,
            grants: Grants::new(),
            given: Vec::new(),
        }
    }

    /// Compares both results, and returns the rules whose question is open.
    fn agree(&self, request: &Request, now: UnixMillis) -> Result<Vec<String>, String> {
        let approvals = self.grants.matching(request, self.policy.revision(), now);
        let live = self.given.iter().filter(|one| one.holds(now)).cloned();
        self.agree_with(request, &approvals, &live.collect::<Vec<_>>())
    }

    /// The same for a request on a connection that was opened with the connection's approvals.
    fn agree_on(&self, connection: &Request, request: &Request) -> Result<(), String> {
        let approvals = self
            .grants
            .matching(connection, self.policy.revision(), START);
        let opened = self.given.iter().filter(|one| one.covers(connection));
        let opened = opened.map(|one| Given {
            carries: true,
            ..one.clone()
        });
        self.agree_with(request, &approvals, &opened.collect::<Vec<_>>())
            .map(|_| ())
    }

    fn agree_with(
        &self,
        request: &Request,
        approvals: &Approvals,
        given: &[Given],
    ) -> Result<Vec<String>, String> {
        let decision = self.policy.decide(request, approvals);
        let wanted = reference::decide(&self.rules, request, given);
        let limits = decision.terms.bytes_max.iter();
        let limits: Vec<_> = limits
            .map(|limit| (limit.rule.id.to_string(), limit.bytes.bytes()))
            .collect();
        // A request for a name lets out only the name.
        let limited = matches!(request, Request::Name(_)) || limits == wanted.limits;
        let same = decision.verdict == wanted.verdict && decision.http_only == wanted.http_only;
        let same = same && limited;
        let mut open: Vec<String> = decision
            .rules
            .iter()
            .map(|rule| rule.id.to_string())
            .collect();
        open.sort_unstable();
        if same && (wanted.verdict != Verdict::Ask || open == wanted.open) {
            if wanted.verdict == Verdict::Ask {
                asked::compare(&decision, &self.rules, &wanted.open)?;
            }
            return Ok(wanted.open);
        }
        Err(format!(
            "{request:?}\nfound {decision:#?}\nwanted {wanted:?}"
        ))
    }

    fn answer(&mut self, number: u32, request: &Request, scope: Scope) -> Result<(), String> {
        let open = self.agree(request, START)?;
        let approvals = self.grants.matching(request, self.policy.revision(), START);
        let decision = self.policy.decide(request, &approvals);
        let id = ApprovalId::from_random(number);
        let revision = self.policy.revision();
        let granted = if decision.review().is_some() {
            let plain = self
                .grants
                .grant(id.clone(), request, &decision, scope, revision, START);
            if !matches!(plain, Err(GrantError::Reviewed(_))) {
                return Err(format!("answered by nobody in a role: {plain:?}"));
            }
            let scope = (scope, UnixMillis(u64::MAX));
            self.grants
                .grant_reviewed(id, request, &decision, scope, revision, START)
        } else {
            self.grants
                .grant(id, request, &decision, scope, revision, START)
        };
        if open.is_empty() != granted.is_err() {
            // The only refused answers are a wide one for a program without a digest, and one that is
            // wider than a rule allows.
            let anonymous = matches!(request, Request::Exec(exec) if exec.digest.is_none());
            let is_narrow = |rule: &Draft| {
                let once = rule.asks.as_ref().is_some_and(|asks| asks.once);
                once && open.contains(&rule.id)
            };
            let too_wide = matches!(granted, Err(GrantError::TooWide { .. }))
                && self.rules.iter().any(is_narrow);
            return if anonymous && !scope.is_exact() || too_wide {
                Ok(())
            } else {
                Err(format!("{open:?} {granted:?}"))
            };
        }
        if !open.is_empty() {
            self.given.push(Given {
                request: request.clone(),
                rules: open.into_iter().collect(),
                wide: !scope.is_exact(),
                until: match scope {
                    Scope::Until(end) => Some(end),
                    Scope::Once | Scope::Uses(_) | Scope::Session | Scope::Paths => None,
                },
                carries: false,
            });
        }
        Ok(())
    }
}

/// Returns a name as the connections that it represents: the name is known if one port is open, and
/// a layer may decide about ports that another one leaves out.
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

fn deny(body: Body) -> Draft {
    Draft::new(Origin::Session, Verdict::Deny, body)
}

/// Denies everything.
fn denies() -> Vec<Draft> {
    let hosts = vec!["**", "0.0.0.0/0", "::/0"];
    let net = Body::Net {
        hosts,
        ports: None,
        methods: None,
        paths: None,
        programs: None,
        private: false,
        bytes_max: None,
    };
    let exec = Body::Exec {
        commands: vec![vec!["**"]],
        unless: Vec::new(),
        programs: None,
        cwd: None,
        environment: None,
    };
    let file = Body::File {
        paths: vec!["**"],
        access: None,
    };
    vec![deny(net), deny(exec), deny(file)]
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn decisions_agree_with_the_reference(
        drafts in drafts(ALL),
        requests in vec(requests(), 8..24),
        answered in vec((0_usize..24, scopes()), 0..4),
    ) {
        let mut pair = Pair::new(&drafts);
        let carried: Vec<Request> = requests.iter().filter_map(requests::carried).collect();
        let requests = [requests, carried].concat();
        for (number, (which, scope)) in (0..).zip(answered) {
            let request = &requests[which % requests.len()];
            let found = pair.answer(number, request, scope);
            prop_assert!(found.is_ok(), "{:?}", found);
        }
        for request in &requests {
            for now in [START, UnixMillis(START.0 + 10)] {
                let found = pair.agree(request, now);
                prop_assert!(found.is_ok(), "{}", found.unwrap_err());
            }
            for connection in requests.iter().filter(|one| matches!(one, Request::Net(_))) {
                let found = pair.agree_on(connection, request);
                prop_assert!(found.is_ok(), "{}", found.unwrap_err());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn the_order_of_rules_does_not_matter(
        (drafts, shuffled) in drafts(ALL).prop_flat_map(|d| (Just(d.clone()), Just(d).prop_shuffle())),
        request in requests(),
    ) {
        let (one, other) = (policy(&kept(&drafts)), policy(&kept(&shuffled)));
        prop_assert_eq!(decide(&one, &request), decide(&other, &request));
    }

    #[test]
    fn no_lower_layer_widens_what_the_organisation_asks_or_denies(
        above in drafts(&[Origin::Organisation]),
        below in drafts(BELOW),
        request in requests(),
    ) {
        let alone = policy(&kept(&above));
        let both = policy(&kept(&[above, below].concat()));
        for request in at_every_port(&both, request) {
            let alone = alone.decide(&request, &Approvals::none());
            let both = both.decide(&request, &Approvals::none());
            // If the organisation has no rule about it, other layers decide.
            if alone.origin == Some(Origin::Organisation) && alone.verdict != Verdict::Allow {
                prop_assert!(both.verdict >= alone.verdict, "{:?} {:?}", alone, both);
                let asked = alone.review().filter(|_| both.verdict == Verdict::Ask);
                if let Some(asked) = asked {
                    let found = asked::is_as_strict(both.review(), asked);
                    prop_assert!(found, "{:?} {:?}", asked, both);
                }
            }
        }
    }

    #[test]
    fn another_deny_never_loosens(
        drafts in drafts(ALL),
        more in drafts(ALL),
        request in requests(),
    ) {
        let before = policy(&kept(&drafts));
        let mut all = drafts;
        all.extend(more.into_iter().filter(|draft| draft.effect == Verdict::Deny));
        let after = policy(&kept(&all));
        prop_assert!(decide(&after, &request) >= decide(&before, &request));
    }

    // keeps invariant: deny-wins
    #[test]
    fn a_deny_that_matches_wins(drafts in drafts(ALL), request in requests()) {
        let all = kept(&[drafts, denies()].concat());
        prop_assert_eq!(decide(&policy(&all), &request), Verdict::Deny);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// `unless` exempts only the forms that it names, in every reading of the command.
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
        // Leading options with their values, as git reads them.
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
        // An unknown option may have the next word as its value; a second `push` is then the
        // command, and the words before it do not belong to that.
        let unknown = |word: &&str| ["-n", "--dry-run", "--x"].contains(word);
        let one_way = !options.iter().any(unknown) || !rest.contains(&"push");
        if in_front && one_way && plain && rest.iter().filter(|word| is_dry(word)).count() == 1 {
            prop_assert_eq!(decide(&policy, &request), Verdict::Allow, "{}", line);
        }
        if in_front && !(plain && rest.iter().any(is_dry)) {
            prop_assert_eq!(decide(&policy, &request), Verdict::Ask, "{}", line);
        }
    }
}

/// The reference classifies every host of the requests correctly.
#[test]
fn the_reference_knows_its_addresses() {
    for (host, sort) in requests::HOSTS {
        let Ok(Host::Address(address)) = host.parse::<Host>() else {
            continue;
        };
        let class = stockade_policy::classify(address);
        let expected = match sort {
            'p' => class == stockade_policy::AddressClass::Public,
            'i' => class == stockade_policy::AddressClass::Private,
            _ => class.is_never_reached(),
        };
        assert!(expected, "{host} {class:?}");
    }
}
