//! What is exact is true.

use stockade_policy::{Approvals, Policy};
use stockade_replay::{Missing, Outcome, Replay, Report};
use stockade_types::Verdict;

use crate::invented::{Numbers, Recorder, policy, request};

/// Rules of every kind, some of which look at what no record has.
const STRICT: &str = r#"
[[allow]]
id = "crates"
what = "net"
hosts = ["crates.test", "files.test"]

[[allow]]
id = "public"
what = "net"
hosts = ["new.test"]
methods = ["GET"]
paths = ["/public/**"]

[[deny]]
id = "paste"
what = "net"
hosts = ["**.paste.test"]

[[deny]]
id = "by-curl"
what = "net"
hosts = ["files.test"]
programs = ["/usr/bin/curl"]

[[deny]]
id = "publish"
what = "exec"
command = [["npm", "publish", "**"], ["cargo", "publish", "**"]]

[[ask]]
id = "python"
what = "exec"
command = ["python3", "**"]

[[deny]]
id = "in-ci"
what = "exec"
command = ["make", "**"]
environment = ["CI"]

[[ask]]
id = "deploy"
what = "file"
paths = ["deploy/**"]

[[deny]]
id = "secrets"
what = "file"
paths = ["secrets/**"]
access = ["rename", "remove"]
"#;

/// Other rules about the same.
const OTHER: &str = r#"
[[deny]]
id = "crates"
what = "net"
hosts = ["crates.test"]

[[allow]]
id = "paste"
what = "net"
hosts = ["paste.test"]
ports = [443, 8443]

[[ask]]
id = "posts"
what = "net"
hosts = ["files.test"]
methods = ["POST"]

[[ask]]
id = "status"
what = "exec"
command = ["git", "status"]

[[deny]]
id = "source"
what = "file"
paths = ["src/**"]
"#;

/// Replays one decision.
fn one(recorder: &Recorder, policy: &Policy) -> Report {
    let mut replay = Replay::new();
    let mut session = replay.session(policy, None);
    for event in &recorder.events {
        session.take(event);
    }
    session.end();
    replay.report()
}

/// Records one request after the other under `old`, replays each under `new`, and returns how many were exact, how many
/// were not, and how many had another outcome.
fn compare(old: &Policy, new: &Policy, rounds: usize) -> (usize, usize, usize) {
    let mut numbers = Numbers(4_711);
    let (mut exact, mut inexact, mut changed) = (0, 0, 0);
    for _ in 0..rounds {
        let request = request(&mut numbers);
        let mut recorder = Recorder::new();
        let yes = numbers.below(2) == 0;
        let recorded = recorder.record(old, &request, yes);
        let report = one(&recorder, new);
        let [group] = report.groups.as_slice() else {
            panic!("{request:?}\n{report:#?}");
        };
        if group.inexact.is_some() {
            inexact += 1;
            continue;
        }
        exact += 1;
        let real = new.decide(&request, &Approvals::none()).verdict;
        assert_eq!(group.recorded, recorded, "{request:?}\n{group:#?}");
        assert_eq!(group.proposed, real, "{request:?}\n{group:#?}");
        changed += usize::from(group.outcome != Outcome::Unchanged);
    }
    (exact, inexact, changed)
}

#[test]
fn under_the_same_policy_everything_exact_is_as_it_was() {
    let (strict, other) = (policy(STRICT), policy(OTHER));
    for policy in [&strict, &other] {
        let (exact, inexact, changed) = compare(policy, policy, 12_000);
        assert_eq!(changed, 0);
        // Neither says all of it is inexact, nor that nothing is.
        assert!(exact > 8_000 && inexact > 100, "{exact} {inexact}");
    }
}

#[test]
fn under_another_policy_everything_exact_is_what_that_says() {
    let (strict, other) = (policy(STRICT), policy(OTHER));
    for (old, new) in [(&strict, &other), (&other, &strict)] {
        let (exact, _, changed) = compare(old, new, 12_000);
        assert!(exact > 8_000 && changed > 1_000, "{exact} {changed}");
    }
}

/// All of it in one session says the same as each by itself.
#[test]
fn a_long_session_adds_up() {
    let (old, new) = (policy(STRICT), policy(OTHER));
    let mut numbers = Numbers(17);
    let mut recorder = Recorder::new();
    let mut wanted = [0_u64; 3];
    for _ in 0..10_000 {
        let request = request(&mut numbers);
        let yes = numbers.below(2) == 0;
        let recorded = recorder.record(&old, &request, yes);
        let proposed = new.decide(&request, &Approvals::none()).verdict;
        wanted[match proposed {
            Verdict::Allow => 0,
            Verdict::Ask => 1,
            Verdict::Deny => 2,
        }] += u64::from(recorded != proposed);
    }
    let report = one(&recorder, &new);
    assert_eq!(report.decisions, 10_000);
    let counts: u64 = report.groups.iter().map(|group| group.count).sum();
    assert_eq!(counts, 10_000);
    let exact = |outcome| -> u64 {
        let groups = report
            .groups
            .iter()
            .filter(|one| one.outcome == outcome && one.inexact.is_none());
        groups.map(|group| group.count).sum()
    };
    for (outcome, most) in [
        (Outcome::NewlyAllowed, wanted[0]),
        (Outcome::NewlyAsked, wanted[1]),
        (Outcome::NewlyDenied, wanted[2]),
    ] {
        let found = exact(outcome);
        assert!(found > 0 && found <= most, "{outcome:?} {found} {most}");
    }
    // A connection on which each request would be judged is inexact as long as no request is known.
    let unseen = report
        .groups
        .iter()
        .filter(|group| group.inexact == Some(Missing::Requests));
    for group in unseen {
        assert_eq!(group.proposed, Verdict::Allow);
    }
}
