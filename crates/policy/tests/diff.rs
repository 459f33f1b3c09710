//! What another policy would change: nothing that loosens is left out or called harmless, and what is
//! certain is true.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, Strategy, any, prop_assert, proptest},
};
use stockade_policy::{
    Approvals, Decision, HostSets, Origin, Policy, Request, SetHost, Source, builtin,
    diff::{Change, Direction, PolicyDiff, Topic},
    load,
};
use stockade_types::Verdict;

use crate::oracle::{
    draft::{ALL, Draft, drafts, kept, policy},
    requests::requests,
};

fn load_as(origin: Origin, text: &str, sets: &HostSets) -> Policy {
    let source = |origin, name: &str, text: String| Source {
        origin,
        name: name.to_owned(),
        text,
    };
    let sources = [
        source(
            Origin::Builtin,
            "generic",
            builtin("generic").unwrap().to_owned(),
        ),
        source(origin, "own.toml", format!("schema = 1\n{text}")),
    ];
    load(&sources, sets).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn user(text: &str) -> Policy {
    load_as(Origin::User, text, &HostSets::default())
}

fn organisation(text: &str) -> Policy {
    load_as(Origin::Organisation, text, &HostSets::default())
}

fn diff(old: &Policy, new: &Policy) -> PolicyDiff {
    PolicyDiff::new(old, new)
}

/// Returns the changes of a topic.
fn of(diff: &PolicyDiff, topic: Topic) -> Vec<&Change> {
    diff.changes
        .iter()
        .filter(|change| change.topic == topic)
        .collect()
}

/// Ends the test if not exactly one change of the topic is there, in this direction, with these effects.
#[track_caller]
fn assert_one(
    diff: &PolicyDiff,
    topic: Topic,
    direction: Direction,
    certain: &[(Verdict, Verdict)],
) {
    let found = of(diff, topic);
    assert_eq!(found.len(), 1, "{:#?}", diff.changes);
    assert_eq!(found[0].direction, direction, "{:#?}", found[0]);
    let shown = found[0]
        .effects
        .iter()
        .filter(|effect| effect.example.is_some());
    let shown: Vec<_> = shown.map(|effect| (effect.before, effect.after)).collect();
    for wanted in certain {
        assert!(shown.contains(wanted), "{wanted:?} in {:#?}", found[0]);
    }
}

const CRATES: &str = "[[allow]]\nid = \"crates\"\nwhat = \"net\"\nhosts = [\"crates.test\", \"index.test\"]\n\
                      methods = [\"GET\", \"HEAD\"]\nreason = \"r\"\n";
const PASTE: &str =
    "[[deny]]\nid = \"paste\"\nwhat = \"net\"\nhosts = [\"**.paste.test\"]\nreason = \"r\"\n";

#[test]
fn what_is_moved_renamed_or_written_otherwise_is_no_difference() {
    let old = user(&format!("{CRATES}{PASTE}"));
    let other = "# moved\n[[deny]]\nid = \"exfiltration\"\nreason = \"said otherwise\"\nhosts = ['**.PASTE.test']\n\
                 what = \"net\"\n\
                 [[allow]]\nid = \"index\"\nwhat = \"net\"\nhosts = [\"index.test\"]\nmethods = [\"HEAD\", \"GET\"]\n\
                 [[allow]]\nid = \"files\"\nwhat = \"net\"\nports = [443, 80]\nhosts = [\"crates.test\"]\n\
                 methods = [\"GET\", \"HEAD\", \"GET\"]\n";
    let same = diff(&old, &user(other));
    assert!(same.is_same(), "{:#?}", same.changes);
    assert_eq!(same.acknowledges(), None);
    // The positive control: one method more is a difference.
    let more = other.replace("\"HEAD\", \"GET\"]", "\"HEAD\", \"GET\", \"POST\"]");
    assert!(!diff(&old, &user(&more)).is_same());
}

#[test]
fn each_kind_says_what_becomes_of_requests() {
    use Direction::{Both, Loosens, Tightens};
    use Verdict::{Allow, Ask, Deny};
    let none = user("");
    let allow =
        user("[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [8443]\n");
    assert_one(&diff(&none, &allow), Topic::Connections, Loosens, &[]);
    assert_one(&diff(&allow, &none), Topic::Connections, Tightens, &[]);
    let requests = user(
        "[[deny]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nmethods = [\"POST\"]\n",
    );
    assert_one(&diff(&none, &requests), Topic::Requests, Tightens, &[]);
    let command = user("[[deny]]\nid = \"a\"\nwhat = \"exec\"\ncommand = [\"curl\", \"**\"]\n");
    assert_one(
        &diff(&none, &command),
        Topic::Executions,
        Tightens,
        &[(Allow, Deny)],
    );
    assert_one(
        &diff(&command, &none),
        Topic::Executions,
        Loosens,
        &[(Deny, Allow)],
    );
    let file = user("[[ask]]\nid = \"a\"\nwhat = \"file\"\npaths = [\"secrets/**\"]\n");
    assert_one(&diff(&none, &file), Topic::Files, Tightens, &[(Allow, Ask)]);
    assert_one(&diff(&file, &none), Topic::Files, Loosens, &[(Ask, Allow)]);
    let tool = user("[[deny]]\nid = \"a\"\nwhat = \"tool\"\ntools = [\"Bash\"]\n");
    assert_one(
        &diff(&none, &tool),
        Topic::Tools,
        Tightens,
        &[(Allow, Deny)],
    );
    let model = user("[[deny]]\nid = \"a\"\nwhat = \"model\"\nhosts = [\"model.test\"]\n");
    assert_eq!(of(&diff(&none, &model), Topic::Models).len(), 1);
    // A question about what was denied opens, one about what was allowed closes: without a proof it is both.
    let asked = organisation(
        "[[ask]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [9999]\n",
    );
    assert_one(
        &diff(&organisation(""), &asked),
        Topic::Connections,
        Both,
        &[(Deny, Ask)],
    );
}

#[test]
fn every_way_to_widen_is_said() {
    let loosens = |old: &Policy, new: &Policy| {
        let found = diff(old, new);
        assert!(found.acknowledges().is_some(), "{:#?}", found.changes);
        let back = diff(new, old);
        assert!(!back.is_same());
        found
    };
    // A group of denies goes.
    loosens(&user(PASTE), &user(""));
    // A pattern swallows another one.
    let wide = PASTE.replace("**.paste.test", "a.paste.test");
    loosens(&user(PASTE), &user(&wide));
    // A rule reaches one host more.
    let more = CRATES.replace("\"index.test\"", "\"index.test\", \"*.crates.test\"");
    loosens(&user(CRATES), &user(&more));
    // Text in Cedar goes, or says something else.
    let cedar = |port: u32| {
        format!(
            "[[cedar]]\nid = \"c\"\ntext = 'forbid (principal, action == Action::\"net\", resource) when {{ \
             context.port == {port} }};'\n"
        )
    };
    loosens(&user(&cedar(25)), &user(""));
    let found = loosens(&user(&cedar(25)), &user(&cedar(26)));
    assert_eq!(of(&found, Topic::Cedar).len(), 2);
    let laid_out = cedar(25)
        .replace(" when {", "\n  when {")
        .replace('\'', "'''");
    assert!(diff(&user(&cedar(25)), &user(&laid_out)).is_same());
    // A pin goes, or is less.
    let pin = |text: &str| organisation(&format!("[require]\n{text}\n"));
    loosens(&pin("ask = \"server\""), &pin("ask = \"tty\""));
    loosens(&pin("journal = \"server\""), &organisation(""));
    // A rule of the organisation becomes one of the user.
    let mine = PASTE.to_owned();
    let found = loosens(&organisation(&mine), &user(&mine));
    assert_eq!(found.loosening().len(), 1, "{:#?}", found.changes);
    // Fewer people say yes.
    let stage = |need: u32| {
        organisation(&format!(
            "[stages.security]\nwho = \"role:security\"\nneed = {need}\n[[ask]]\nid = \"push\"\nwhat = \"exec\"\n\
             command = [\"git\", \"push\", \"**\"]\nstages = [\"security\"]\n"
        ))
    };
    let found = loosens(&stage(2), &stage(1));
    assert_eq!(
        of(&found, Topic::Executions)[0].direction,
        Direction::Loosens
    );
    assert!(diff(&stage(1), &stage(2)).acknowledges().is_none());
}

#[test]
fn a_host_set_that_grows_is_a_widened_rule() {
    let rule = "[[allow]]\nid = \"p\"\nwhat = \"net\"\nhosts = [\"@npm\"]\n";
    let sets = |hosts: &[&str]| {
        let host = |host: &&str| SetHost {
            host: host.parse().unwrap(),
            port: None,
        };
        HostSets([("npm".to_owned(), hosts.iter().map(host).collect())].into())
    };
    let old = load_as(Origin::User, rule, &sets(&["registry.test"]));
    let new = load_as(Origin::User, rule, &sets(&["registry.test", "other.test"]));
    let found = diff(&old, &new);
    let changes = found.loosening();
    assert!(
        changes
            .iter()
            .any(|change| change.what.contains("other.test")),
        "{changes:#?}"
    );
    // The set in other words is the same policy.
    let named = load_as(
        Origin::User,
        "[[allow]]\nid = \"p\"\nwhat = \"net\"\nhosts = [\"registry.test\"]\n",
        &sets(&["registry.test"]),
    );
    assert!(
        diff(&old, &named).is_same(),
        "{:#?}",
        diff(&old, &named).changes
    );
}

#[test]
fn an_ask_that_is_split_may_be_answered_by_two_exceptions() {
    let allow = "[[allow]]\nid = \"x\"\nwhat = \"exec\"\ncommand = [[\"git\", \"push\", \"origin\"], [\"*\", \"push\", \"origin\"]]\n";
    let one = format!(
        "{allow}[[ask]]\nid = \"q\"\nwhat = \"exec\"\ncommand = [[\"git\", \"push\", \"**\"], [\"*\", \"push\", \"**\"]]\n"
    );
    let two = format!(
        "{allow}[[ask]]\nid = \"q\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\n\
         [[ask]]\nid = \"r\"\nwhat = \"exec\"\ncommand = [\"*\", \"push\", \"**\"]\n"
    );
    let (one, two) = (user(&one), user(&two));
    assert!(diff(&one, &two).acknowledges().is_some());
    assert!(diff(&two, &one).acknowledges().is_none());
}

#[test]
fn settings_have_directions() {
    use Direction::{Both, Loosens, Neither, Tightens};
    for (old, new, direction) in [
        ("", "[workspace]\nmode = \"review\"", Tightens),
        ("", "[workspace]\nprotect = [\"deploy/**\"]", Tightens),
        ("", "[workspace]\nunprotect = [\".envrc\"]", Loosens),
        ("", "[filesystem]\nread = [\"~/notes\"]", Loosens),
        ("", "[filesystem]\nhide = [\"~/notes\"]", Tightens),
        ("", "[environment]\npass = [\"EDITOR\"]", Loosens),
        ("", "[environment]\nset = { EDITOR = \"vi\" }", Both),
        (
            "[limits]\nopen_files = 10",
            "[limits]\nopen_files = 20",
            Loosens,
        ),
        ("[limits]\nopen_files = 10", "", Loosens),
        ("", "[limits]\nwatches = 10", Tightens),
        ("", "[record]\nsync = \"each\"", Tightens),
        ("[record]\nterminal = \"on\"", "", Loosens),
        ("", "[record]\njournal_bytes_max = \"1GiB\"", Neither),
        ("", "[mcp]\nadded = \"deny\"", Tightens),
        ("", "[network]\npublish = false", Tightens),
        (
            "[process]\ndebuggers = \"none\"",
            "[process]\ndebuggers = \"all\"",
            Loosens,
        ),
    ] {
        let found = diff(&user(&format!("{old}\n")), &user(&format!("{new}\n")));
        let own: Vec<_> = found
            .changes
            .iter()
            .map(|change| change.direction)
            .collect();
        assert_eq!(own, [direction], "{new}: {:#?}", found.changes);
    }
    let secret = diff(
        &user(""),
        &user("[environment]\nset = { API_TOKEN = \"hunter2\" }\n"),
    );
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn the_words_say_what_is_certain() {
    let found = diff(
        &user(""),
        &user("[[deny]]\nid = \"curl\"\nwhat = \"exec\"\ncommand = [\"curl\", \"**\"]\n"),
    );
    let lines = found.changes[0].in_words();
    assert_eq!(
        lines[0],
        "tightens: deny exec curl ** `curl` (user, own.toml:2)"
    );
    assert!(
        lines[1].starts_with("newly denied (was allowed): for example `exec curl"),
        "{lines:?}"
    );
    // What no sample shows is only possible.
    assert!(
        lines[2].starts_with("may be newly denied (was asked)"),
        "{lines:?}"
    );
}

/// Changes some of the rules: leaves them out, moves them, has them do something else, or in another layer.
fn another(drafts: &[Draft], edits: &[(usize, u8)], more: Vec<Draft>) -> Vec<Draft> {
    let mut new = drafts.to_vec();
    for (which, edit) in edits {
        if new.is_empty() {
            break;
        }
        let which = which % new.len();
        match edit % 5 {
            0 => {
                new.remove(which);
            }
            1 => {
                let moved = new.remove(which);
                new.push(moved);
            }
            2 => {
                let draft = &mut new[which];
                draft.effect = match draft.effect {
                    Verdict::Allow => Verdict::Deny,
                    Verdict::Ask => Verdict::Allow,
                    Verdict::Deny => Verdict::Ask,
                };
                draft.asks = None;
            }
            3 => {
                let layer = ALL
                    .iter()
                    .position(|layer| *layer == new[which].layer)
                    .unwrap();
                new[which].layer = ALL[(layer + 1) % ALL.len()];
            }
            _ => new[which].asks = None,
        }
    }
    new.extend(more);
    new
}

/// Returns what a decision lets happen, without the names of rules.
fn outcome(decision: &Decision) -> (Verdict, bool, bool, bool, bool) {
    let terms = &decision.terms;
    (
        decision.verdict,
        decision.http_only,
        terms.private,
        terms.inspect,
        terms.splice,
    )
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8)>> {
    vec((any::<usize>(), any::<u8>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Both directions: what is judged otherwise has a change that says so, and what has no change is judged
    /// as before.
    #[test]
    fn what_is_judged_otherwise_has_a_change_that_says_so(
        old in drafts(ALL),
        edits in edits(),
        more in drafts(ALL),
        add in any::<bool>(),
        requests in vec(requests(), 1..24),
    ) {
        let more = if add { more.into_iter().take(2).collect() } else { Vec::new() };
        let new = another(&old, &edits, more);
        let (old, new) = (policy(&kept(&old)), policy(&kept(&new)));
        let found = diff(&old, &new);
        for request in &requests {
            let decide = |policy: &Policy| policy.decide(request, &Approvals::none());
            let (before, after) = (decide(&old), decide(&new));
            let about = found.about(&old, &new, request);
            if about.is_empty() {
                prop_assert!(outcome(&before) == outcome(&after), "nothing named for {request:?}\n{before:?}\n{after:?}\n{:#?}", found.changes);
            }
            let named = |wanted: Direction| {
                about.iter().any(|change| change.direction == wanted || change.direction == Direction::Both)
            };
            let (loosens, tightens) = (after.verdict < before.verdict, after.verdict > before.verdict);
            prop_assert!(!loosens || named(Direction::Loosens), "loosens: {request:?}\n{before:?}\n{after:?}\n{about:#?}");
            prop_assert!(!tightens || named(Direction::Tightens), "tightens: {request:?}\n{before:?}\n{after:?}\n{about:#?}");
        }
    }

    #[test]
    fn the_order_and_the_names_of_rules_are_no_difference(
        old in drafts(ALL),
        turn in any::<usize>(),
        requests in vec(requests(), 1..4),
    ) {
        let mut new = old.clone();
        if !new.is_empty() {
            let turn = turn % new.len();
            new.rotate_left(turn);
        }
        let (old, new) = (policy(&kept(&old)), policy(&kept(&new)));
        let found = diff(&old, &new);
        prop_assert!(found.is_same(), "{:#?}", found.changes);
        for request in &requests {
            let decide = |policy: &Policy| policy.decide(request, &Approvals::none()).verdict;
            prop_assert!(decide(&old) == decide(&new));
        }
    }

    /// A change that is certain is shown by an example, which the command for it confirms.
    #[test]
    fn what_is_certain_is_true(old in drafts(ALL), edits in edits(), index in any::<usize>()) {
        let new = another(&old, &edits, Vec::new());
        let (old, new) = (policy(&kept(&old)), policy(&kept(&new)));
        let found = diff(&old, &new);
        let certain: Vec<_> = found
            .changes
            .iter()
            .flat_map(|change| &change.effects)
            .filter_map(|effect| Some((effect, effect.example.as_ref()?)))
            // A request by a certain program, in a certain directory or with variables has no such line.
            .filter(|(_, line)| line.starts_with("file "))
            .collect();
        if let Some((effect, line)) = certain.get(index % certain.len().max(1)) {
            let probe = stockade_policy::Probe::parse(line).unwrap();
            prop_assert!(old.rehearse(&probe).1.verdict == effect.before, "{line}");
            prop_assert!(new.rehearse(&probe).1.verdict == effect.after, "{line}");
        }
    }
}

#[test]
fn the_attack_on_the_test_itself_is_seen() {
    // The positive control of the property: where a deny goes, something is named about its requests.
    let deny = user(PASTE);
    let none = user("");
    let found = diff(&deny, &none);
    let probe = stockade_policy::Probe::parse("net a.paste.test:443").unwrap();
    let request: Vec<Request> = probe.requests().to_vec();
    assert_eq!(found.about(&deny, &none, &request[0]).len(), 1);
    let elsewhere = stockade_policy::Probe::parse("net b.test:443").unwrap();
    assert!(
        found
            .about(&deny, &none, &elsewhere.requests()[0])
            .is_empty()
    );
}
