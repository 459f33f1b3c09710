//! The running agent against a server that is honest, breaks off, or lies.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use stockade_api::{NodeId, node::Down};
use stockade_journal::{Journal, SigningKey, layout};
use stockade_node::{
    AgentError, HeldByServer, Link, Note, Options, RECEIPT_FILE, held_by_server, run_until, status,
};
use stockade_types::UnixMillis;
use tokio::sync::oneshot;

use crate::lab::{Lab, Mood, PEOPLE, POLICY, Session, Shared, append, facts, id, stamp, until};

/// An agent in a thread; it is gone, in the middle of whatever it does, once this is dropped.
struct Running {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), AgentError>>>,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl Running {
    fn start(lab: &Lab) -> Self {
        let notes: Arc<Mutex<Vec<Note>>> = Arc::default();
        let told = notes.clone();
        let options = Options {
            state: lab.state(),
            facts: facts(),
            tell: Arc::new(move |note| told.lock().unwrap().push(note.clone())),
        };
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            run_until(options, async {
                ended.await.ok();
                Ok(())
            })
        });
        Self {
            end: Some(end),
            thread: Some(thread),
            notes,
        }
    }

    fn has_told(&self, is_it: impl Fn(&Note) -> bool) -> bool {
        self.notes.lock().unwrap().iter().any(is_it)
    }

    fn result(mut self) -> Result<(), AgentError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().ok();
        }
    }
}

#[test]
fn journals_arrive_as_they_are_and_receipts_stay_beside_them() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let first = lab.journal(&id(1), 10);
    first.finish();
    let agent = Running::start(&lab);
    until("the ended one is held", || {
        lab.held(&id(1)) == lab.here(&id(1))
    });
    // One that starts while the agent runs, grows and ends.
    let mut second = lab.journal(&id(2), 3);
    until("its beginning is held", || {
        lab.held(&id(2)) == lab.here(&id(2))
    });
    second.append(5_000);
    second.finish();
    until("all is held", || lab.held(&id(2)) == lab.here(&id(2)));
    until("and receipted", || {
        let dir = lab.session_dir(&id(2));
        let held = held_by_server(&lab.state(), &id(2), &dir).unwrap();
        let size = u64::try_from(lab.here(&id(2)).len()).unwrap();
        matches!(held, HeldByServer::UpTo(receipt) if receipt.offset == size)
    });
    until("the status says so", || {
        let status = status(&lab.state()).unwrap().unwrap();
        let is_connected = matches!(status.link, Link::Connected { .. });
        status.running && is_connected && status.unshipped_bytes == 0
    });
    drop(agent);
    assert!(!status(&lab.state()).unwrap().unwrap().running);
}

#[test]
fn sessions_from_before_the_enrolment_stay_here() {
    let lab = Lab::new();
    lab.journal(&id(1), 3).finish();
    std::thread::sleep(std::time::Duration::from_millis(5));
    lab.enrol().unwrap();
    lab.journal(&id(2), 3).finish();
    let _agent = Running::start(&lab);
    until("the later one is held", || {
        lab.held(&id(2)) == lab.here(&id(2))
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(lab.held(&id(1)).is_empty());
}

#[test]
fn connections_and_agents_that_break_at_any_time_lose_and_double_nothing() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let mut journals: Vec<Session> = (1..=3).map(|number| lab.journal(&id(number), 2)).collect();
    for round in 0..12 {
        let agent = Running::start(&lab);
        lab.mood(if round % 2 == 0 {
            Mood::Breaks
        } else {
            Mood::Honest
        });
        let before = lab.locked().pieces;
        for journal in &mut journals {
            journal.append(50 + round);
        }
        until("something was sent", || lab.locked().pieces > before);
        std::thread::sleep(std::time::Duration::from_millis(7 * round));
        drop(agent);
    }
    lab.mood(Mood::Honest);
    for journal in journals {
        journal.finish();
    }
    let _agent = Running::start(&lab);
    for number in 1..=3 {
        until("all is held", || {
            lab.held(&id(number)) == lab.here(&id(number))
        });
        let dir = lab.session_dir(&id(number));
        until(
            "there is a receipt for all, even of pieces whose receipt was lost",
            || {
                let held = held_by_server(&lab.state(), &id(number), &dir).unwrap();
                let size = u64::try_from(lab.here(&id(number)).len()).unwrap();
                matches!(held, HeldByServer::UpTo(receipt) if receipt.offset == size)
            },
        );
    }
}

#[test]
fn receipts_that_do_not_hold_are_not_kept_and_stop_that_journal() {
    for mood in [
        Mood::OtherKey,
        Mood::OtherNode,
        Mood::OtherSession,
        Mood::OtherChain,
        Mood::Ahead,
        Mood::Refuses,
    ] {
        let lab = Lab::new();
        lab.enrol().unwrap();
        lab.mood(mood);
        lab.journal(&id(1), 3).finish();
        let agent = Running::start(&lab);
        until("it is told", || {
            agent
                .has_told(|note| matches!(note, Note::Stopped { session, .. } if *session == id(1)))
        });
        let dir = lab.session_dir(&id(1));
        assert!(!dir.join(RECEIPT_FILE).exists(), "{mood:?}");
        let held = held_by_server(&lab.state(), &id(1), &dir).unwrap();
        assert_eq!(held, HeldByServer::Unknown, "{mood:?}");
        // The same bytes, and an honest server.
        lab.mood(Mood::Honest);
        lab.journal(&id(2), 3).finish();
        until("others go on", || {
            lab.session_dir(&id(2)).join(RECEIPT_FILE).exists()
        });
    }
}

#[test]
fn a_busy_server_is_left_alone_for_a_while_and_gets_all_then() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    lab.mood(Mood::Busy);
    lab.journal(&id(1), 3).finish();
    let _agent = Running::start(&lab);
    until("it was asked", || lab.locked().pieces > 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let asked = lab.locked().pieces;
    assert!(asked <= 7, "{asked} times in half a second");
    lab.mood(Mood::Honest);
    until("it is held", || lab.held(&id(1)) == lab.here(&id(1)));
}

/// Writes the journal of a session anew, with the machine's own key, as its owner could.
fn rewritten(lab: &Lab, events: u64) {
    let dir = lab.session_dir(&id(1));
    fs::remove_file(dir.join(layout::JOURNAL_FILE)).unwrap();
    fs::remove_file(dir.join(layout::HEAD_FILE)).ok();
    let key = SigningKey::load(&lab.state().join(layout::KEY_FILE)).unwrap();
    let mut journal = Journal::create(&dir, id(1), key).unwrap();
    append(&mut journal, events);
    journal.finish(stamp()).unwrap();
}

#[test]
fn a_journal_that_is_written_anew_contradicts_its_receipt() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    lab.journal(&id(1), 20).finish();
    let dir = lab.session_dir(&id(1));
    let agent = Running::start(&lab);
    until("there is a receipt", || dir.join(RECEIPT_FILE).exists());
    drop(agent);
    let held = |lab: &Lab| held_by_server(&lab.state(), &id(1), &dir).unwrap();
    assert!(matches!(held(&lab), HeldByServer::UpTo(_)));
    let key = SigningKey::load(&lab.state().join(layout::KEY_FILE)).unwrap();
    for (events, what) in [(20, "written anew"), (100, "written anew"), (3, "only")] {
        rewritten(&lab, events);
        // By itself it is in order: its owner has the key.
        let verified = stockade_journal::verify(&dir, &id(1), &key.verifying_key()).unwrap();
        assert!(verified.is_intact());
        let HeldByServer::Contradicted(why) = held(&lab) else {
            panic!("{events} events: {:?}", held(&lab));
        };
        assert!(why.contains(what), "{why}");
    }
    // Nor is what was written anew sent after what the server holds.
    let before = lab.held(&id(1));
    rewritten(&lab, 100);
    let agent = Running::start(&lab);
    std::thread::sleep(std::time::Duration::from_millis(800));
    drop(agent);
    assert!(
        lab.held(&id(1)).starts_with(&before),
        "the evidence stays what it was"
    );
    // A receipt that somebody made up.
    fs::write(dir.join(RECEIPT_FILE), b"{}").unwrap();
    assert!(matches!(held(&lab), HeldByServer::Contradicted(_)));
}

#[test]
fn a_machine_that_was_retired_ends_its_agent() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let agent = Running::start(&lab);
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    let retired = serde_json::to_string(&Down::Retired).unwrap();
    lab.locked().down.push(retired);
    assert!(matches!(agent.result(), Err(AgentError::Retired(org)) if org == "lab"));
    lab.mood(Mood::Retired);
    let again = Running::start(&lab).result();
    assert!(matches!(again, Err(AgentError::Retired(_))), "{again:?}");
}

#[test]
fn a_second_agent_does_not_run() {
    let lab = Lab::new();
    assert!(matches!(
        Running::start(&lab).result(),
        Err(AgentError::NotEnrolled)
    ));
    lab.enrol().unwrap();
    let first = Running::start(&lab);
    until("it is connected", || {
        first.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    assert!(matches!(
        Running::start(&lab).result(),
        Err(AgentError::Running)
    ));
    drop(first);
    let third = Running::start(&lab);
    until("it is connected", || {
        third.has_told(|note| matches!(note, Note::Connected { .. }))
    });
}

#[test]
fn orders_are_for_one_machine_by_one_key_and_once() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    // A session that has ended: an order for it is carried out at once.
    lab.journal(&id(1), 1).finish();
    let agent = Running::start(&lab);
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    let (node, server, other) = {
        let shared = lab.locked();
        let seed = |byte| stockade_trust::SecretKey::from_seed(&[byte; 32]);
        (shared.node.clone(), seed(1), seed(2))
    };
    let give = |envelope| {
        let line = serde_json::to_string(&Down::Order { envelope }).unwrap();
        lab.locked().down.push(line);
    };
    let refused = |what: &str| {
        until(what, || {
            agent.has_told(|note| matches!(note, Note::Refused { why, .. } if why.contains(what)))
        });
    };
    give(lab.order(&id(1), &NodeId::from_random(8), &server));
    refused("another machine");
    give(lab.order(&id(1), &node, &other));
    refused("0 of the 1 signatures");
    assert!(!agent.has_told(|note| matches!(note, Note::Ordered { .. })));
    let good = lab.order(&id(1), &node, &server);
    give(good.clone());
    until("it is carried out", || {
        agent.has_told(|note| matches!(note, Note::Ordered { .. }))
    });
    give(good);
    refused("before");
}

#[test]
fn a_certificate_is_renewed_when_half_of_its_time_is_over() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let path = lab.state().join("node/certificate.json");
    assert!(!renewal_is_due(&path));
    let mut certificate: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    certificate["since"] = 0.into();
    fs::write(&path, certificate.to_string()).unwrap();
    assert!(renewal_is_due(&path));
    let _agent = Running::start(&lab);
    until("it is renewed", || !renewal_is_due(&path));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(lab.locked().renewals, 1);
}

/// A machine that was away until its certificate was over asks for another one by its key, over a connection on
/// which it shows none.
#[test]
fn a_certificate_that_is_over_is_replaced_by_a_request_that_the_key_signs() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let path = lab.state().join("node/certificate.json");
    let mut certificate: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    certificate["since"] = 0.into();
    certificate["until"] = 1.into();
    fs::write(&path, certificate.to_string()).unwrap();
    // The server may say no: then the machine says why, and nothing else is tried.
    lab.mood(Mood::Refuses);
    let agent = Running::start(&lab);
    until("it says why", || {
        agent.has_told(|note| matches!(note, Note::Lost { .. }))
    });
    assert!(renewal_is_due(&path));
    assert_eq!(lab.locked().renewals, 0);
    assert_eq!(lab.locked().hellos, 0);
    lab.mood(Mood::Honest);
    until("it is renewed", || !renewal_is_due(&path));
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    assert_eq!(lab.locked().renewals, 1);
}

fn renewal_is_due(path: &Path) -> bool {
    let certificate: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let time = |name: &str| certificate[name].as_u64().unwrap();
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let now = UnixMillis(u64::try_from(now).unwrap());
    now.0 >= u64::midpoint(time("since"), time("until"))
}

const TEXT: &str = "schema = 1\n[[deny]]\nid = \"no\"\nwhat = \"net\"\nhosts = [\"evil.test\"]\nreason = \"lab\"\n";

#[test]
fn a_bundle_is_kept_if_it_is_signed_newer_and_of_use_and_no_other() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let agent = Running::start(&lab);
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    let path = lab.state().join("trust/bundle.json");
    let acked = |count: usize, state: &str| {
        until("it is acknowledged", || lab.locked().acks.len() >= count);
        let ack = lab.locked().acks[count - 1].clone();
        assert_eq!(ack["state"], state, "{ack}");
        ack
    };
    let give = |envelope| lab.send(&Down::Bundle { envelope });
    give(Lab::bundle(7, "lab", TEXT, POLICY));
    assert_eq!(acked(1, "stored")["serial"], 7);
    let kept = fs::read(&path).unwrap();
    let mut flipped = serde_json::to_value(Lab::bundle(8, "lab", TEXT, POLICY)).unwrap();
    let payload = flipped["payload"].as_str().unwrap();
    flipped["payload"] = payload.replacen('e', "f", 1).into();
    let other_text = TEXT.replace("evil", "good");
    let refused = [
        (Lab::bundle(6, "lab", TEXT, POLICY), "serial 6"),
        (
            Lab::bundle(7, "lab", &other_text, POLICY),
            "another bundle has the serial 7",
        ),
        (
            Lab::bundle(8, "other", TEXT, POLICY),
            "organisation `other`",
        ),
        (Lab::bundle(8, "lab", TEXT, PEOPLE), "signatures"),
        (Lab::bundle(8, "lab", TEXT, 1), "signatures"),
        (serde_json::from_value(flipped).unwrap(), "signatures"),
        (
            Lab::bundle(8, "lab", "schema = 1\nnonsense = 1\n", POLICY),
            "cannot be loaded",
        ),
    ];
    for (number, (envelope, why)) in refused.into_iter().enumerate() {
        give(envelope);
        let ack = acked(number + 2, "failed");
        assert!(ack["error"].as_str().unwrap().contains(why), "{ack}");
        assert_eq!(
            fs::read(&path).unwrap(),
            kept,
            "the last good one stays: {why}"
        );
    }
    give(Lab::bundle(8, "lab", TEXT, POLICY));
    assert_eq!(acked(9, "stored")["serial"], 8);
    drop(agent);
    // Another start of the agent knows it still.
    let agent = Running::start(&lab);
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    give(Lab::bundle(7, "lab", TEXT, POLICY));
    acked(10, "failed");
}

#[test]
fn people_are_replaced_by_newer_ones_that_are_signed() {
    let lab = Lab::new();
    lab.enrol().unwrap();
    let agent = Running::start(&lab);
    until("it is connected", || {
        agent.has_told(|note| matches!(note, Note::Connected { .. }))
    });
    let path = lab.state().join("trust/directory.json");
    let first = fs::read(&path).unwrap();
    for (serial, key, why) in [(4, PEOPLE, "serial 4"), (6, POLICY, "signatures")] {
        lab.send(&Down::Directory {
            envelope: Shared::directory(serial, key),
        });
        until("it is refused", || {
            agent.has_told(
                |note| matches!(note, Note::Refused { why: said, .. } if said.contains(why)),
            )
        });
        assert_eq!(fs::read(&path).unwrap(), first);
    }
    lab.send(&Down::Directory {
        envelope: Shared::directory(6, PEOPLE),
    });
    until("it is kept", || fs::read(&path).unwrap() != first);
}
