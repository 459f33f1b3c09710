//! Rollouts: what machines are told, what their journals come to, and who may move what.

use std::time::{Duration, Instant};

use hyper::Method;
use stockade_api::node::{Ack, AckState, BundleHere, Down, Hello, HelloAnswer};
use stockade_control::{
    Server,
    policy::{ProposalError, Publication, Review},
    rollouts::{MoveError, Order},
    state::{RolloutRow, RolloutState},
};
use stockade_event::{BundleSeen, Durability, Event, RolloutSeen};
use stockade_trust::{Bundle, PlanStep, Pointer, Root, StepKind, UserId};
use stockade_types::{
    DecisionId, DecisionRecord, Digest, RequestKind, RolloutArm, Subject, Target, Verdict,
};

use crate::common::{Lab, Machine, Written, facts, read};

const OLD: &str = "schema = 1\n";
const NEW: &str = "schema = 1\n\n[[deny]]\nid = \"no-paste\"\nwhat = \"net\"\nhosts = [\"paste.test\"]\nreason = \"data leaves\"\n";

fn step(kind: StepKind, percent: u8) -> PlanStep {
    PlanStep {
        kind,
        percent,
        min_time_ms: 0,
        min_decisions: 10,
        min_sessions: 5,
    }
}

async fn roll_out(server: &Server, steps: Vec<PlanStep>) -> RolloutRow {
    server
        .publish(OLD, "first", "ann", 0)
        .await
        .unwrap()
        .unwrap();
    let publication = Publication::now(NEW, "no paste sites", "ben", 1).step_by_step(steps);
    server.publish_as(&publication).await.unwrap().unwrap();
    server.state.rollouts(1).await.unwrap().remove(0)
}

async fn stands(server: &Server, id: &str) -> RolloutRow {
    server.state.rollout(id).await.unwrap().unwrap()
}

/// Says hello, and returns what the machine is told: its bundle and pointer, checked as a machine does.
async fn told(machine: &mut Machine) -> (Bundle, Option<Pointer>) {
    let hello = Hello {
        facts: facts(),
        sessions: Vec::new(),
        bundle: None::<BundleHere>,
        directory_serial: 0,
        now: stockade_control::now(),
    };
    let said = machine
        .client
        .json(Method::POST, "/node/v1/hello", &hello)
        .await;
    let said: HelloAnswer = read(&said);
    let now = stockade_control::now();
    let root = Root::open(&machine.answer.root, now).unwrap();
    let bundle = root.bundle(&said.bundle.unwrap(), 0).unwrap();
    let pointer = said.pointer.map(|pointer| {
        let pointer = root.pointer(&pointer, &bundle, None, now);
        pointer.unwrap()
    });
    (bundle, pointer)
}

fn decided(number: u64, verdict: Verdict) -> Event {
    Event::NameDecided {
        decision: DecisionRecord {
            decision: DecisionId::new(number),
            verdict,
            kind: RequestKind::Name,
            subject: Subject::default(),
            target: Target::default(),
            rule: None,
            answered: None,
            reason: String::new(),
            failed_condition: None,
            nearest_allow: None,
            remedy: String::new(),
            policy_revision: Digest::of(b"policy"),
            session: stockade_types::SessionId::from_random(1),
            time: stockade_control::now(),
        },
    }
}

/// Sends the journal of a session that began at a step, with so many denials beside fifty other decisions.
async fn session(
    lab: &Lab,
    machine: &mut Machine,
    number: u64,
    (rollout, arm): (&RolloutRow, RolloutArm),
    denials: u64,
) {
    let mut written = Written::new(lab.dir.path(), number);
    let loaded = Event::PolicyLoaded {
        revision: Digest::of(b"policy"),
        layers: Vec::new(),
        rules: 1,
        quiet: None,
        bundle: Some(BundleSeen {
            channel: rollout.channel.clone(),
            serial: rollout.serial,
            digest: Digest::of(NEW.as_bytes()),
            rollout: Some(RolloutSeen {
                rollout: rollout.id.clone(),
                step: rollout.step,
                arm,
            }),
        }),
    };
    let mut events = vec![loaded, decided(1, Verdict::Deny)];
    events.push(Event::RefusalRepeated {
        decision: DecisionId::new(1),
        count: denials - 1,
    });
    events.extend((2..52).map(|number| decided(number, Verdict::Allow)));
    for event in &events {
        let now = stockade_journal::now();
        let done = written
            .journal
            .append(now, "test", None, None, event, Durability::Written);
        done.unwrap();
    }
    written.journal.checkpoint(stockade_journal::now()).unwrap();
    let session = written.session.clone();
    machine.send(&session, 0, &written.bytes()).await.unwrap();
}

/// Machines of which at least one is on each side of the step.
async fn both_sides(lab: &Lab, rollout: &RolloutRow) -> [Machine; 2] {
    let (mut canary, mut control) = (None, None);
    while canary.is_none() || control.is_none() {
        let machine = lab.machine(None).await;
        match rollout.plan.arm(rollout.step, machine.id.as_str()) {
            RolloutArm::Canary => canary = Some(machine),
            RolloutArm::Control => control = Some(machine),
            RolloutArm::Shadow | RolloutArm::Enforced => panic!("the step is a canary"),
        }
    }
    [canary.unwrap(), control.unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_denies_more_is_halted_and_machines_are_told_at_once() {
    let lab = Lab::new().await;
    let steps = vec![step(StepKind::Canary, 50), step(StepKind::Enforce, 100)];
    let rollout = roll_out(&lab.server, steps).await;
    let [mut canary, mut control] = both_sides(&lab, &rollout).await;
    let (bundle, pointer) = told(&mut canary).await;
    assert_eq!(pointer.unwrap().step, 1);
    let now = stockade_control::now();
    let root = Root::open(&canary.answer.root, now).unwrap();
    let mut down = canary.client.stream().await;
    let mut number = 0;
    for _ in 0..6 {
        number += 2;
        session(
            &lab,
            &mut canary,
            number,
            (&rollout, RolloutArm::Canary),
            400,
        )
        .await;
        session(
            &lab,
            &mut control,
            number + 1,
            (&rollout, RolloutArm::Control),
            10,
        )
        .await;
    }
    // What says that it is of the other side is not counted.
    for _ in 0..6 {
        number += 2;
        session(
            &lab,
            &mut control,
            number,
            (&rollout, RolloutArm::Canary),
            10,
        )
        .await;
    }
    let row = moved(&lab, &rollout.id, 0).await;
    assert_eq!((row.state, row.step), (RolloutState::Halted, 0), "{row:?}");
    assert!(row.why.contains("denials"), "{}", row.why);
    let told = loop {
        match down.news().await.unwrap() {
            Down::Pointer { envelope } => {
                let taken = root.pointer(&envelope, &bundle, None, stockade_control::now());
                if taken.as_ref().unwrap().step == 0 {
                    break taken.unwrap();
                }
            }
            other => drop(other),
        }
    };
    assert_eq!(told.rollout, rollout.id);
    let moves = lab.server.state.moves(&rollout.id).await.unwrap();
    assert_eq!((moves[0].from, moves[0].to), (1, 0));
    // It does not go on by itself, nor by hand.
    lab.server.look_at_rollout().await.unwrap();
    let again = lab
        .server
        .order_rollout(&rollout.id, Order::Advance, "ann", "")
        .await
        .unwrap();
    assert!(
        matches!(again, Err(MoveError::State("halted"))),
        "{again:?}"
    );
}

/// Looks until a rollout is at a step, or for twenty seconds: what running sessions have come to is written
/// after a while.
async fn moved(lab: &Lab, id: &str, step: u32) -> RolloutRow {
    let begun = Instant::now();
    loop {
        lab.server.look_at_rollout().await.unwrap();
        let row = stands(&lab.server, id).await;
        if row.step == step || begun.elapsed() > Duration::from_secs(20) {
            return row;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_is_as_good_goes_on_and_one_without_data_does_not() {
    let lab = Lab::new().await;
    let steps = vec![
        step(StepKind::Canary, 50),
        step(StepKind::Canary, 75),
        step(StepKind::Enforce, 100),
    ];
    let rollout = roll_out(&lab.server, steps).await;
    for _ in 0..3 {
        lab.server.look_at_rollout().await.unwrap();
        assert_eq!(stands(&lab.server, &rollout.id).await.step, 1, "no data");
    }
    let [mut canary, mut control] = both_sides(&lab, &rollout).await;
    for number in 0..6 {
        let side = (&rollout, RolloutArm::Canary);
        session(&lab, &mut canary, 2 * number + 1, side, 400).await;
        let side = (&rollout, RolloutArm::Control);
        session(&lab, &mut control, 2 * number + 2, side, 400).await;
    }
    let row = moved(&lab, &rollout.id, 2).await;
    assert_eq!((row.state, row.step), (RolloutState::Running, 2), "{row:?}");
    // What was seen before counts for the step before.
    lab.server.look_at_rollout().await.unwrap();
    let row = stands(&lab.server, &rollout.id).await;
    assert_eq!(row.step, 2);
    // By hand: hold, and go on to the end, whatever is missing.
    let order = async |order| {
        let done = lab
            .server
            .order_rollout(&rollout.id, order, "ann", "seen enough");
        done.await.unwrap()
    };
    order(Order::Hold).await.unwrap();
    assert!(order(Order::Hold).await.is_err());
    order(Order::Advance).await.unwrap();
    let row = stands(&lab.server, &rollout.id).await;
    assert_eq!((row.state, row.step), (RolloutState::Done, 3));
    assert!(order(Order::Halt).await.is_err(), "a new bundle leads back");
    assert_eq!(
        lab.server.in_force().await.unwrap(),
        Some((2, NEW.to_owned()))
    );
    let (bundle, pointer) = told(&mut canary).await;
    assert_eq!(pointer.unwrap().step, 3);
    assert_eq!((bundle.text.as_str(), bundle.serial), (OLD, 2));
    // A later policy replaces what is in force, and has no rollout.
    lab.server
        .publish(OLD, "back", "ann", 2)
        .await
        .unwrap()
        .unwrap();
    let (bundle, pointer) = told(&mut canary).await;
    assert_eq!((bundle.serial, pointer), (3, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_that_cannot_use_the_bundle_halts_and_a_wrong_clock_does_not() {
    let lab = Lab::new().await;
    let steps = vec![step(StepKind::Shadow, 100), step(StepKind::Enforce, 100)];
    let rollout = roll_out(&lab.server, steps).await;
    let mut machine = lab.machine(None).await;
    let mut ack = Ack {
        channel: rollout.channel.clone(),
        serial: rollout.serial,
        state: AckState::Failed,
        error: Some("a pointer: it has expired".to_owned()),
        session: None,
        rollout: Some(stockade_api::node::RolloutHere {
            rollout: rollout.id.clone(),
            step: 0,
            arm: RolloutArm::Control,
        }),
    };
    let say = Method::POST;
    machine
        .client
        .json(say.clone(), "/node/v1/acks", &ack)
        .await;
    lab.server.look_at_rollout().await.unwrap();
    assert_eq!(
        stands(&lab.server, &rollout.id).await.state,
        RolloutState::Running
    );
    ack.rollout = None;
    ack.error = Some("its policy cannot be loaded: org.toml:3".to_owned());
    machine.client.json(say, "/node/v1/acks", &ack).await;
    lab.server.look_at_rollout().await.unwrap();
    let row = stands(&lab.server, &rollout.id).await;
    assert_eq!((row.state, row.step), (RolloutState::Halted, 0), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_three_people_halt_and_those_of_one_do_not() {
    let lab = Lab::new().await;
    let steps = vec![step(StepKind::Shadow, 100), step(StepKind::Enforce, 100)];
    let rollout = roll_out(&lab.server, steps).await;
    let report = async |by: &str| {
        let by = UserId(by.to_owned());
        let done = lab.server.report_refusal(&rollout.id, &by, "my registry");
        done.await.unwrap().unwrap();
        lab.server.look_at_rollout().await.unwrap();
        stands(&lab.server, &rollout.id).await.state
    };
    for by in ["lee", "lee", "lee", "ann"] {
        assert_eq!(report(by).await, RolloutState::Running, "{by}");
    }
    assert_eq!(report("ben").await, RolloutState::Halted);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_what_he_wrote_and_nothing_that_others_have_overtaken() {
    let lab = Lab::new().await;
    let server = &lab.server;
    let with = |steps| Review {
        steps,
        ..Review::default()
    };
    let (ann, ben) = (UserId("ann".to_owned()), UserId("ben".to_owned()));
    let propose = async |base| {
        let made = server.propose(NEW, "no paste sites", "ann", base).await;
        made.unwrap()
    };
    let row = propose(0).await.unwrap();
    let own = server
        .approve(&row.id, &ann, Review::default())
        .await
        .unwrap();
    assert!(matches!(own, Err(ProposalError::Own)), "{own:?}");
    let steps = vec![step(StepKind::Enforce, 100)];
    let first = server.approve(&row.id, &ben, with(steps)).await.unwrap();
    assert!(first.is_err(), "there is nothing to go from: {first:?}");
    let published = server
        .approve(&row.id, &ben, Review::default())
        .await
        .unwrap();
    assert_eq!(published.unwrap().serial, 1);
    let again = server
        .approve(&row.id, &ben, Review::default())
        .await
        .unwrap();
    assert!(matches!(again, Err(ProposalError::Settled("published"))));
    // Two that were made on the same policy: the second one has not seen the first.
    let (one, other) = (propose(1).await.unwrap(), propose(1).await.unwrap());
    let steps = vec![step(StepKind::Canary, 10), step(StepKind::Enforce, 100)];
    let done = server.approve(&one.id, &ben, with(steps)).await.unwrap();
    assert_eq!(done.unwrap().serial, 2);
    let behind = server
        .approve(&other.id, &ben, Review::default())
        .await
        .unwrap();
    assert!(matches!(
        behind,
        Err(ProposalError::Behind { found: 2, base: 1 })
    ));
    assert!(matches!(
        propose(1).await,
        Err(ProposalError::Behind { found: 2, base: 1 })
    ));
    // A plan that makes no sense publishes nothing.
    let next = propose(2).await.unwrap();
    let steps = vec![step(StepKind::Canary, 10)];
    let wrong = server.approve(&next.id, &ben, with(steps)).await.unwrap();
    assert!(matches!(wrong, Err(ProposalError::Publish(_))), "{wrong:?}");
    let open = server.state.proposal(&next.id).await.unwrap().unwrap();
    assert_eq!(open.serial, None);
}
