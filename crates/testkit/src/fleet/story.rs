//! What the sessions of a fleet do: programs, files and connections, as an agent that builds and tests.

use stockade_event::Event;
use stockade_types::{
    DecisionId, DecisionRecord, Digest, RequestKind, SessionId, Target, UnixMillis, Verdict,
};

use crate::invented::{changed, started, subject};

/// Different turns, after which the same comes again.
const TURNS: u32 = 64;

/// Returns the events of a session; it goes on with them from the beginning.
pub(super) fn story() -> Vec<Event> {
    (0..TURNS).flat_map(turn).collect()
}

fn turn(turn: u32) -> Vec<Event> {
    let line = format!("cargo test --package cart-{turn}");
    let package = format!("cart-{turn}");
    let bash = subject(100 + turn, &["bash", "-lc", &line], &["codex exec"]);
    let cargo = subject(
        1_000 + turn,
        &["cargo", "test", "--package", &package],
        &[&line, "codex exec"],
    );
    let mut all = vec![started(bash), started(cargo.clone())];
    for number in 0..6 {
        let path = format!("/home/u/src/shop/target/{turn}/part-{number}.o");
        all.push(changed(&path.as_str().into(), &cargo));
    }
    let decision = DecisionRecord {
        decision: DecisionId::new(u64::from(turn)),
        verdict: Verdict::Allow,
        kind: RequestKind::Net,
        subject: cargo,
        target: Target {
            host: Some("packages.test".to_owned()),
            port: Some(443),
            ..Target::default()
        },
        rule: Some("packages".parse().expect("an id")),
        answered: None,
        reason: "packages come from there".to_owned(),
        failed_condition: None,
        nearest_allow: None,
        remedy: String::new(),
        policy_revision: Digest::of(b"p"),
        session: SessionId::from_random(1),
        time: UnixMillis(0),
    };
    all.push(Event::ConnectionDecided {
        decision,
        address: Some("192.0.2.7".parse().expect("an address")),
        sni: None,
        detail: None,
    });
    all.push(Event::ConnectionClosed {
        host: "packages.test".to_owned(),
        port: 443,
        decision: DecisionId::new(u64::from(turn)),
        bytes_out: 1_300,
        bytes_in: 4_000_000,
        duration_ms: 5,
        failed: None,
    });
    all
}
