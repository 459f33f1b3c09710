//! Bundles with candidates, and pointers: what a machine takes, and what it refuses.

use StepKind::{Canary, Enforce, Shadow};
use serde_json::{Value, json};
use stockade_trust::{
    Bundle, COHORTS, Candidate, Envelope, Keys, POINTER_LASTS_MAX_MS, Plan, PlanError, PlanStep,
    Pointer, PointerError, Root, SecretKey, Statement, StepKind, cohort,
};
use stockade_types::{RolloutArm, UnixMillis};

/// A name, and what it changes.
type Change = (&'static str, &'static dyn Fn(&mut Pointer));

const NOW: u64 = 1_800_000_000_000;
const SALT: &str = "0123456789abcdef";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn root() -> Root {
    let keys = |seed| Keys {
        keys: vec![key(seed).public()],
        threshold: 1,
    };
    Root {
        org: "shop".to_owned(),
        version: 1,
        not_after: UnixMillis(NOW * 2),
        root: keys(1),
        people: keys(2),
        policy: keys(3),
        servers: keys(4),
    }
}

fn step(kind: StepKind, percent: u8) -> PlanStep {
    PlanStep {
        kind,
        percent,
        min_time_ms: 60_000,
        min_decisions: 100,
        min_sessions: 20,
    }
}

fn plan() -> Plan {
    Plan {
        rollout: "r-7".to_owned(),
        salt: SALT.to_owned(),
        steps: vec![
            step(StepKind::Shadow, 100),
            step(StepKind::Canary, 2),
            step(StepKind::Canary, 50),
            step(StepKind::Enforce, 100),
        ],
    }
}

fn bundle() -> Bundle {
    Bundle {
        org: "shop".to_owned(),
        channel: "default".to_owned(),
        serial: 42,
        created: UnixMillis(NOW),
        name: "org.toml".to_owned(),
        text: "schema = 1\n".to_owned(),
        candidate: Some(Candidate {
            text: "schema = 1\n# new\n".to_owned(),
            plan: plan(),
        }),
    }
}

fn pointer(step: u32, issued: u64) -> Pointer {
    Pointer {
        org: "shop".to_owned(),
        channel: "default".to_owned(),
        serial: 42,
        rollout: "r-7".to_owned(),
        step,
        issued: UnixMillis(issued),
        not_after: UnixMillis(issued + POINTER_LASTS_MAX_MS),
    }
}

fn seal<S: Statement>(statement: &S, seed: u8) -> Envelope {
    Envelope::seal(statement, &[&key(seed)]).expect("JSON")
}

/// Seals any JSON as a statement of the type of `S`, by the right form of the envelope.
fn sealed_as<S: Statement>(payload: &Value, seed: u8) -> Envelope {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = payload.to_string();
    let message = format!(
        "DSSEv1 {} {} {} {bytes}",
        S::TYPE.len(),
        S::TYPE,
        bytes.len()
    );
    let envelope = json!({
        "payloadType": S::TYPE,
        "payload": STANDARD.encode(&bytes),
        "signatures": [{
            "keyid": key(seed).public().id(),
            "sig": STANDARD.encode(key(seed).sign(message.as_bytes())),
        }],
    });
    serde_json::from_value(envelope).expect("an envelope")
}

fn changed<S: Statement>(statement: &S, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = serde_json::to_value(statement).expect("JSON");
    change(&mut value);
    value
}

/// Each of these is signed by the right key, or nearly, and is refused all the same.
#[test]
fn no_bundle_that_was_changed_cut_or_made_up_is_taken() {
    let root = root();
    let take = |envelope: &Envelope| root.bundle(envelope, 42);
    assert!(take(&seal(&bundle(), 3)).is_ok(), "the benign twin");
    assert!(take(&sealed_as::<Bundle>(&changed(&bundle(), |_| {}), 3)).is_ok());
    let set = |path: &str, value: Value| {
        changed(&bundle(), |whole| {
            *whole.pointer_mut(path).expect("it is there") = value;
        })
    };
    let add = |path: &str, name: &str| {
        changed(&bundle(), |whole| {
            let inner = whole.pointer_mut(path).expect("it is there");
            inner
                .as_object_mut()
                .expect("an object")
                .insert(name.to_owned(), json!(1));
        })
    };
    let without = |path: &str, name: &str| {
        changed(&bundle(), |whole| {
            let inner = whole.pointer_mut(path).expect("it is there");
            inner.as_object_mut().expect("an object").remove(name);
        })
    };
    let steps = |kinds: &[(StepKind, u8)]| {
        let steps: Vec<PlanStep> = kinds
            .iter()
            .map(|(kind, part)| step(*kind, *part))
            .collect();
        set("/candidate/plan/steps", json!(steps))
    };
    let wrong = [
        set("/org", json!("other")),
        set("/serial", json!(41)),
        set("/serial", json!(-1)),
        set("/serial", json!("42")),
        set("/text", Value::Null),
        set("/candidate/text", json!(7)),
        set("/candidate", json!({})),
        add("", "min_version"),
        add("/candidate", "sha256"),
        add("/candidate/plan", "labels"),
        add("/candidate/plan/steps/0", "hosts"),
        without("", "channel"),
        without("/candidate", "plan"),
        without("/candidate/plan", "salt"),
        without("/candidate/plan/steps/1", "percent"),
        set("/candidate/plan/salt", json!("short")),
        set("/candidate/plan/rollout", json!("")),
        set("/candidate/plan/steps/1/percent", json!(256)),
        set("/candidate/plan/steps/1/kind", json!("everywhere")),
        set("/candidate/plan/steps/1/min_time_ms", json!(u64::MAX)),
        steps(&[]),
        steps(&[(Shadow, 100)]),
        steps(&[(Canary, 10), (Shadow, 100), (Enforce, 100)]),
        steps(&[(Canary, 10), (Canary, 10), (Enforce, 100)]),
        steps(&[(Canary, 100), (Enforce, 100)]),
        steps(&[(Canary, 0), (Enforce, 100)]),
        steps(&[(Enforce, 100), (Enforce, 100)]),
        steps(&[(Enforce, 50)]),
        steps(&[(Shadow, 100); 9]),
    ];
    for (index, payload) in wrong.iter().enumerate() {
        let taken = take(&sealed_as::<Bundle>(payload, 3));
        assert!(taken.is_err(), "{index}: {payload}");
    }
}

#[test]
fn no_bundle_of_another_key_is_taken_nor_one_that_was_cut() {
    let root = root();
    let take = |envelope: &Envelope| root.bundle(envelope, 42);
    for seed in [1, 2, 4, 5] {
        assert!(take(&seal(&bundle(), seed)).is_err(), "key {seed}");
    }
    // A statement of another kind, by the right key.
    assert!(take(&seal(&pointer(1, NOW), 3)).is_err());
    // Cut, and changed in every seventh byte.
    let whole = serde_json::to_string(&seal(&bundle(), 3)).expect("JSON");
    for at in (1..whole.len()).step_by(7) {
        let cut: Result<Envelope, _> = serde_json::from_str(whole.get(..at).unwrap_or_default());
        assert!(cut.is_err(), "cut at {at}");
        let mut bytes = whole.clone().into_bytes();
        bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte ^= 1);
        let read: Result<Envelope, _> = serde_json::from_slice(&bytes);
        let taken = read.is_ok_and(|envelope| take(&envelope).is_ok());
        assert!(!taken, "byte {at}");
    }
}

#[test]
fn a_pointer_goes_along_the_plan_or_back_to_step_0_and_nowhere_else() {
    let (root, bundle) = (root(), bundle());
    let now = UnixMillis(NOW + 1_000);
    let take = |step: u32, known: Option<u32>| {
        let known = known.map(|step| pointer(step, NOW));
        let envelope = seal(&pointer(step, NOW + 1), 4);
        root.pointer(&envelope, &bundle, known.as_ref(), now)
            .is_ok()
    };
    for step in 0..=4 {
        assert!(take(step, None), "step {step} for who knows none");
    }
    assert!(!take(5, None) && !take(u32::MAX, None));
    for known in 0..=4_u32 {
        for step in 0..=4_u32 {
            // Step 4 is the last one: from there a new bundle leads back.
            let may = step >= known || (step == 0 && known < 4);
            assert_eq!(take(step, Some(known)), may, "from {known} to {step}");
        }
    }
}

#[test]
fn no_pointer_that_is_old_forged_or_for_something_else_is_taken() {
    let (root, bundle) = (root(), bundle());
    let now = UnixMillis(NOW + 1_000);
    let known = pointer(1, NOW);
    let take = |envelope: &Envelope, bundle: &Bundle, now| {
        root.pointer(envelope, bundle, Some(&known), now)
    };
    let good = pointer(2, NOW + 1);
    assert_eq!(take(&seal(&good, 4), &bundle, now), Ok(good.clone()));
    // The one that is known, again.
    assert_eq!(take(&seal(&known, 4), &bundle, now), Ok(known.clone()));
    for seed in [1, 2, 3, 5] {
        assert!(
            take(&seal(&good, seed), &bundle, now).is_err(),
            "key {seed}"
        );
    }
    let with = |change: &dyn Fn(&mut Pointer)| {
        let mut pointer = good.clone();
        change(&mut pointer);
        take(&seal(&pointer, 4), &bundle, now)
    };
    let wrong: [Change; 10] = [
        ("org", &|one| one.org = "other".to_owned()),
        ("channel", &|one| one.channel = "ci".to_owned()),
        ("older serial", &|one| one.serial = 41),
        ("later serial", &|one| one.serial = 43),
        ("rollout", &|one| one.rollout = "r-6".to_owned()),
        ("too long", &|one| one.not_after.0 += 1),
        ("no time", &|one| one.not_after = one.issued),
        ("backwards", &|one| one.not_after = UnixMillis(NOW)),
        ("older", &|one| {
            one.issued.0 -= 2;
            one.not_after.0 -= 2;
        }),
        ("two things", &|one| {
            one.issued.0 -= 1;
            one.not_after.0 -= 1;
        }),
    ];
    for (name, change) in wrong {
        assert!(with(change).is_err(), "{name}");
    }
    let early = pointer(2, NOW + 1_000 + 5 * 60 * 1_000 + 1);
    assert_eq!(
        take(&seal(&early, 4), &bundle, now),
        Err(PointerError::Early)
    );
    let late = UnixMillis(good.not_after.0);
    assert_eq!(
        take(&seal(&good, 4), &bundle, late),
        Err(PointerError::Expired)
    );
    let plain = Bundle {
        candidate: None,
        ..bundle.clone()
    };
    assert!(matches!(
        take(&seal(&good, 4), &plain, now),
        Err(PointerError::Bundle { .. })
    ));
    let more = changed(&good, |whole| {
        let fields = whole.as_object_mut().expect("an object");
        fields.insert("nodes".to_owned(), json!(["n-1"]));
    });
    assert!(take(&sealed_as::<Pointer>(&more, 4), &bundle, now).is_err());
    let cut = changed(&good, |whole| {
        whole.as_object_mut().expect("an object").remove("step");
    });
    assert!(take(&sealed_as::<Pointer>(&cut, 4), &bundle, now).is_err());
}

#[test]
fn what_is_in_force_follows_the_pointer_while_it_holds() {
    let bundle = bundle();
    let (old, new) = (bundle.text.as_str(), "schema = 1\n# new\n");
    let within = |step, node: &str| {
        bundle
            .in_force(Some(&pointer(step, NOW)), node, UnixMillis(NOW))
            .arm
    };
    let nodes: Vec<String> = (0..2_000)
        .map(|number| format!("n-{number:016x}"))
        .collect();
    let count = |step, arm| {
        nodes
            .iter()
            .filter(|node| within(step, node) == arm)
            .count()
    };
    assert_eq!(count(0, RolloutArm::Control), 2_000);
    assert_eq!(count(1, RolloutArm::Shadow), 2_000);
    let (few, half) = (count(2, RolloutArm::Canary), count(3, RolloutArm::Canary));
    assert!((20..=60).contains(&few), "2 % of 2,000: {few}");
    assert!((900..=1_100).contains(&half), "half of 2,000: {half}");
    assert_eq!(count(4, RolloutArm::Enforced), 2_000);
    // Who is in the smaller part stays in the larger one.
    for node in &nodes {
        if within(2, node) == RolloutArm::Canary {
            assert_eq!(within(3, node), RolloutArm::Canary, "{node}");
        }
    }
    let canary = nodes
        .iter()
        .find(|node| within(3, node) == RolloutArm::Canary)
        .expect("half of them");
    let late = UnixMillis(NOW + POINTER_LASTS_MAX_MS);
    let at = |step, now| bundle.in_force(Some(&pointer(step, NOW)), canary, now);
    assert_eq!(at(3, UnixMillis(NOW)).text, new);
    assert_eq!(at(3, UnixMillis(NOW)).everywhere, old);
    // Who hears nothing any more is back under what was in force; after the last step it stays.
    assert_eq!(at(3, late).text, old);
    assert_eq!(at(1, late).compared, None);
    assert_eq!(at(4, late).text, new);
    assert_eq!(at(4, late).everywhere, new);
    assert_eq!(at(1, UnixMillis(NOW)).compared, Some(new));
    let none = bundle.in_force(None, canary, UnixMillis(NOW));
    assert_eq!((none.text, none.arm), (old, RolloutArm::Control));
}

#[test]
fn cohorts_are_even_and_differ_between_rollouts() {
    // Written down, so that two versions of the program never disagree.
    assert_eq!(cohort("r-7", SALT, "n-1"), 6737);
    let nodes: Vec<String> = (0..10_000).map(|number| format!("n-{number}")).collect();
    let below = |rollout: &str, salt: &str| {
        let part = nodes
            .iter()
            .filter(|node| cohort(rollout, salt, node) < COHORTS / 10);
        part.cloned().collect::<std::collections::BTreeSet<_>>()
    };
    let (one, other) = (below("r-7", SALT), below("r-7", "fedcba9876543210"));
    let next = below("r-8", SALT);
    for part in [&one, &other, &next] {
        assert!((900..=1_100).contains(&part.len()), "{}", part.len());
    }
    for another in [&other, &next] {
        let both = one.intersection(another).count();
        assert!((60..=150).contains(&both), "independent: {both}");
    }
    // Names that only together are the same text are not the same.
    assert_ne!(cohort("r-71", "0", "n"), cohort("r-7", "10", "n"));
}

#[test]
fn plans_say_what_is_wrong_with_them() {
    let mut wrong = plan();
    wrong.steps.pop();
    assert_eq!(wrong.check(), Err(PlanError::Order(3)));
    assert_eq!(plan().check(), Ok(()));
}
