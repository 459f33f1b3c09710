//! Measures load and decision times: `cargo run --release -p stockade-policy --example decide`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement, not a part"
)]

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use stockade_policy::{Approvals, HostSets, Origin, Probe, Request, Source, builtin, load};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Rules in Cedar about every kind, a third of them about connections; the requests match none of
/// them.
fn cedar(text: &mut String, rules: usize) {
    for number in 0..rules {
        let (action, condition) = match number % 3 {
            0 => (
                "action in Action::\"net\"",
                format!("context.host like \"*.c{number}.test\" && context.agent == \"codex\""),
            ),
            1 => (
                "action == Action::\"exec\"",
                format!(
                    "context.names.contains(\"c{number}\") && context.subcommands.contains(\"push\")"
                ),
            ),
            _ => (
                "action == Action::\"file\"",
                format!("context.path like \"c{number}/*\" && context.access != \"remove\""),
            ),
        };
        writeln!(
            text,
            "[[cedar]]\nid = \"cedar{number}\"\ntext = '''forbid (principal, {action}, resource) when {{ {condition} }};'''"
        )
        .unwrap();
    }
}

fn sources(rules: usize, in_cedar: usize) -> Vec<Source> {
    let mut text = "schema = 1\n".to_owned();
    cedar(&mut text, in_cedar);
    for number in 0..rules {
        match number % 3 {
            0 => writeln!(
                text,
                "[[allow]]\nid = \"h{number}\"\nwhat = \"net\"\nhosts = [\"h{number}.a{}.test\"]",
                number % 97
            ),
            1 => writeln!(
                text,
                "[[ask]]\nid = \"c{number}\"\nwhat = \"exec\"\ncommand = [\"tool{number}\", \"x\", \"**\"]"
            ),
            _ => writeln!(
                text,
                "[[deny]]\nid = \"p{number}\"\nwhat = \"file\"\npaths = [\"dir{number}/**\"]"
            ),
        }
        .unwrap();
    }
    let user = Source {
        origin: Origin::User,
        name: "user.toml".to_owned(),
        text,
    };
    let preset = Source {
        origin: Origin::Builtin,
        name: "codex".to_owned(),
        text: builtin("codex").unwrap().to_owned(),
    };
    vec![preset, user]
}

fn requests(rules: usize) -> Vec<Request> {
    let mut lines: Vec<String> = [
        "exec git status",
        "exec git push",
        "net unknown.test:443",
        "net unknown.test:9",
        "exec cc -c x.c",
    ]
    .map(str::to_owned)
    .into();
    // Each of these matches a different rule, so the first round finds nothing in a cache.
    for number in (0..rules).step_by((rules / 1_000).max(1)) {
        lines.push(match number % 3 {
            0 => format!("net h{number}.a{}.test:443", number % 97),
            1 => format!("exec tool{number} x y"),
            _ => format!("file write dir{number}/x"),
        });
    }
    lines
        .iter()
        .filter_map(|line| Probe::parse(line).ok()?.requests().first().cloned())
        .collect()
}

fn main() {
    let mut out = std::io::stdout().lock();
    for (rules, in_cedar) in [
        (10, 0),
        (1_000, 0),
        (10_000, 0),
        (10_000, 100),
        (10_000, 1_000),
    ] {
        let sources = sources(rules, in_cedar);
        let loads: Vec<Duration> = (0..15)
            .map(|_| {
                let start = Instant::now();
                let policy = load(&sources, &HostSets::default());
                let time = start.elapsed();
                assert!(policy.is_ok());
                time
            })
            .collect();
        let policy =
            load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"));
        let requests = requests(rules);
        let mut rounds = Vec::new();
        for _ in 0..2 {
            let times: Vec<Duration> = requests
                .iter()
                .map(|request| {
                    let start = Instant::now();
                    let decision = policy.decide(request, &Approvals::none());
                    let time = start.elapsed();
                    assert!(!decision.reason.is_empty());
                    time
                })
                .collect();
            rounds.push(median(times));
        }
        let first = rounds.first().copied().unwrap_or_default();
        let next = rounds.last().copied().unwrap_or_default();
        writeln!(
            out,
            "{rules:>6} rules, {in_cedar} in Cedar: load {:?}, first decision {first:?}, again {next:?} (medians)",
            median(loads)
        )
        .unwrap();
    }
}
