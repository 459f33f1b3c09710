//! Which step of a rollout it is, as the agent of a machine hears it: good pointers are kept and acknowledged,
//! others refused and told, and the last good one stays.

use std::{fs, sync::Arc};

use stockade_api::node::Down;
use stockade_node::{Options, run_until};
use stockade_trust::{Bundle, Candidate, Envelope, Plan, PlanStep, Pointer, SecretKey, StepKind};
use stockade_types::UnixMillis;
use tokio::sync::oneshot;

use crate::lab::{Lab, ORG, POLICY, facts, until};

const OLD: &str = "schema = 1\n";
const NEW: &str = "schema = 1\n# new\n";
const HOUR_MS: u64 = 3_600_000;

fn now() -> u64 {
    stamp_ms(crate::lab::stamp().time_unix_ns)
}

const fn stamp_ms(ns: u64) -> u64 {
    ns / 1_000_000
}

fn bundle(serial: u64, candidate: &str) -> Envelope {
    let step = |kind, percent| PlanStep {
        kind,
        percent,
        min_time_ms: 0,
        min_decisions: 0,
        min_sessions: 0,
    };
    let plan = Plan {
        rollout: format!("r-{serial}"),
        salt: "0123456789abcdef".to_owned(),
        steps: vec![
            step(StepKind::Shadow, 100),
            step(StepKind::Canary, 50),
            step(StepKind::Enforce, 100),
        ],
    };
    let bundle = Bundle {
        org: ORG.to_owned(),
        channel: "main".to_owned(),
        serial,
        created: UnixMillis(1),
        name: "lab.toml".to_owned(),
        text: OLD.to_owned(),
        candidate: Some(Candidate {
            text: candidate.to_owned(),
            plan,
        }),
    };
    Envelope::seal(&bundle, &[&SecretKey::from_seed(&[POLICY; 32])]).unwrap()
}

fn pointer(serial: u64, step: u32, issued: u64) -> Pointer {
    Pointer {
        org: ORG.to_owned(),
        channel: "main".to_owned(),
        serial,
        rollout: format!("r-{serial}"),
        step,
        issued: UnixMillis(issued),
        not_after: UnixMillis(issued + HOUR_MS),
    }
}

/// Signs by the key of the lab's server, or by another one.
fn seal(pointer: &Pointer, seed: u8) -> Envelope {
    Envelope::seal(pointer, &[&SecretKey::from_seed(&[seed; 32])]).unwrap()
}

/// Pointers and others that are refused by a machine at step 2 of bundle 7, and why.
fn wrong(begun: u64) -> [(Envelope, &'static str); 13] {
    let with = |change: &dyn Fn(&mut Pointer)| {
        let mut pointer = pointer(7, 2, begun + 2);
        change(&mut pointer);
        seal(&pointer, 1)
    };
    let mut flipped = serde_json::to_value(seal(&pointer(7, 3, begun + 2), 1)).unwrap();
    let payload = flipped["payload"].as_str().unwrap().replacen('c', "d", 1);
    flipped["payload"] = payload.into();
    [
        (seal(&pointer(7, 3, begun + 2), 2), "signatures"),
        (seal(&pointer(7, 3, begun + 2), POLICY), "signatures"),
        (serde_json::from_value(flipped).unwrap(), "signatures"),
        (bundle(8, NEW), "expected"),
        (seal(&pointer(6, 3, begun + 2), 1), "it is for main 6"),
        (seal(&pointer(8, 3, begun + 2), 1), "it is for main 8"),
        (seal(&pointer(7, 4, begun + 2), 1), "leads to step 4"),
        (seal(&pointer(7, 1, begun + 2), 1), "from step 2 to step 1"),
        (seal(&pointer(7, 1, begun - 1), 1), "signed before"),
        (
            with(&|one| "other".clone_into(&mut one.org)),
            "organisation",
        ),
        (with(&|one| "r-9".clone_into(&mut one.rollout)), "it is for"),
        (with(&|one| one.not_after.0 += 1), "more than an hour"),
        (
            with(&|one| {
                one.issued.0 += HOUR_MS;
                one.not_after.0 += HOUR_MS;
            }),
            "clock",
        ),
    ]
}

#[test]
#[expect(clippy::too_many_lines, reason = "one life of a rollout, step by step")]
fn a_machine_follows_its_rollout_and_nothing_else() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let options = Options {
        state: lab.state(),
        facts: facts(),
        tell: Arc::new(|_| {}),
    };
    let (end, ended) = oneshot::channel::<()>();
    let agent = std::thread::spawn(move || {
        run_until(options, async {
            ended.await.ok();
            Ok(())
        })
    });
    let path = lab.state().join("trust/pointer.json");
    let kept = || fs::read(&path).ok();
    let acks = || lab.locked().acks.clone();
    // Sends it, and returns what the machine says of it.
    let give = |down: &Down| {
        let before = acks().len();
        lab.send(down);
        until("it is acknowledged", || acks().len() > before);
        acks().pop().unwrap()
    };
    let point = |envelope: Envelope| give(&Down::Pointer { envelope });
    let begun = now();
    let said = give(&Down::Bundle {
        envelope: bundle(7, NEW),
    });
    assert_eq!(
        (&said["state"], &said["rollout"]["step"]),
        (&"stored".into(), &0.into())
    );
    let said = point(seal(&pointer(7, 1, begun), 1));
    assert_eq!(
        (&said["state"], &said["rollout"]["arm"]),
        (&"stored".into(), &"shadow".into())
    );
    let said = point(seal(&pointer(7, 2, begun + 1), 1));
    assert_eq!(
        (&said["state"], &said["rollout"]["step"]),
        (&"stored".into(), &2.into())
    );
    let good = kept();
    assert!(good.is_some());
    for (envelope, why) in wrong(begun) {
        let said = point(envelope);
        assert_eq!(said["state"], "failed", "{why}");
        assert!(
            said["error"].as_str().unwrap().contains(why),
            "{why}: {said}"
        );
        assert_eq!(said["rollout"]["step"], 2, "the last good one: {said}");
        assert_eq!(kept(), good, "{why}");
    }
    // Back to step 0, and a bundle of which the candidate cannot be loaded: neither is used.
    let said = point(seal(&pointer(7, 0, begun + 3), 1));
    assert_eq!(
        (&said["state"], &said["rollout"]["arm"]),
        (&"stored".into(), &"control".into())
    );
    let said = give(&Down::Bundle {
        envelope: bundle(8, "schema = 1\nnonsense = 1\n"),
    });
    assert_eq!(
        (&said["state"], &said["serial"]),
        (&"failed".into(), &8.into())
    );
    assert!(said["rollout"].is_null(), "{said}");
    // A new one begins at step 0, whatever the pointer before it said.
    let said = give(&Down::Bundle {
        envelope: bundle(9, NEW),
    });
    assert_eq!(
        (&said["state"], &said["rollout"]["step"]),
        (&"stored".into(), &0.into())
    );
    assert_eq!(kept(), None);
    end.send(()).ok();
    agent.join().unwrap().unwrap();
}
