//! One journal and its followers: each gets every event once, whenever it starts.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Lab, stamp};
use stockade_event::{Counts, Durability, Event, SessionOutcome};
use stockade_journal::{
    FollowError, Followed, Follower, Journal, Position, ReadError, follow, layout::LOCK_FILE,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn lock(dir: &Path) -> File {
    let lock = File::create(dir.join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    lock
}

fn append(journal: &mut Journal, event: &Event) {
    let stamp = stamp(journal.seq() + 1);
    journal
        .append(stamp, "supervisor", None, None, event, Durability::Written)
        .unwrap();
}

fn note(journal: &mut Journal, number: u64) {
    append(
        journal,
        &Event::OperatorActed {
            action: "note".to_owned(),
            by: "test".to_owned(),
            detail: number.to_string(),
        },
    );
}

fn end(journal: &mut Journal) {
    append(
        journal,
        &Event::SessionEnded {
            outcome: SessionOutcome::Exited { code: 0 },
            duration_ms: 1,
            counts: Counts::default(),
            own_usage: None,
        },
    );
}

/// Follows to the end: the numbers of the events, and how it ended.
fn all(follower: &mut Follower) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    loop {
        match follower.next(PATIENCE).unwrap() {
            Followed::Event(envelope) => numbers.push(envelope.seq),
            Followed::Unreadable(error) => others.push(error.to_string()),
            Followed::Nothing => others.push("nothing came".to_owned()),
            Followed::Ended => {
                others.push("ended".to_owned());
                return (numbers, others);
            }
            Followed::Abandoned => {
                others.push("abandoned".to_owned());
                return (numbers, others);
            }
        }
    }
}

#[test]
fn any_number_follow_one_journal_from_the_beginning_or_late() {
    const EVENTS: u64 = 400;
    let lab = Lab::new();
    let dir = lab.path();
    thread::scope(|scope| {
        // The first followers start before the journal exists.
        let early: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| all(&mut follow(dir, Position::START, PATIENCE).unwrap())))
            .collect();
        let locked = lock(dir);
        let mut journal = lab.create();
        let mut late = Vec::new();
        for number in 1..EVENTS {
            note(&mut journal, number);
            if number % 100 == 0 {
                journal.checkpoint(stamp(number)).unwrap();
                late.push(
                    scope.spawn(|| all(&mut follow(dir, Position::START, PATIENCE).unwrap())),
                );
            }
        }
        end(&mut journal);
        journal.finish(stamp(EVENTS)).unwrap();
        drop(locked);
        let expected: Vec<u64> = (1..=EVENTS).collect();
        for follower in early.into_iter().chain(late) {
            let (numbers, others) = follower.join().unwrap();
            assert_eq!(numbers, expected);
            assert_eq!(others, ["ended"]);
        }
    });
    let after = all(&mut follow(dir, Position::START, Duration::ZERO).unwrap());
    assert_eq!((after.0.len(), after.1), (400, vec!["ended".to_owned()]));
}

#[test]
fn a_supervisor_that_dies_is_noticed_and_what_it_left_is_told() {
    let lab = Lab::new();
    let locked = lock(lab.path());
    let mut journal = lab.create();
    note(&mut journal, 1);
    let mut follower = follow(lab.path(), Position::START, Duration::ZERO).unwrap();
    assert!(matches!(
        follower.next(PATIENCE).unwrap(),
        Followed::Event(_)
    ));
    // A line that is being written is not a fault while a process is alive that can finish it.
    let mut file = OpenOptions::new()
        .append(true)
        .open(lab.journal_path())
        .unwrap();
    file.write_all(b"{\"chain\":\"").unwrap();
    let quiet = follower.next(Duration::from_millis(50)).unwrap();
    assert!(matches!(quiet, Followed::Nothing), "{quiet:?}");
    assert!(follower.is_live());
    let dying = thread::spawn(move || drop(locked));
    let begun = Instant::now();
    let (numbers, others) = all(&mut follower);
    dying.join().unwrap();
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(numbers, [0; 0]);
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(others[0].contains("last 10 bytes"), "{others:?}");
    assert_eq!(others[1], "abandoned");
    // It repeats this, and so does a follower that starts now.
    assert!(matches!(
        follower.next(PATIENCE).unwrap(),
        Followed::Abandoned
    ));
    let later = all(&mut follow(lab.path(), Position::START, Duration::ZERO).unwrap());
    assert_eq!(later, (vec![1], others));
}

#[test]
fn a_torn_line_that_is_finished_later_is_no_fault() {
    let lab = Lab::new();
    let locked = lock(lab.path());
    let mut journal = lab.create();
    note(&mut journal, 1);
    end(&mut journal);
    journal.finish(stamp(3)).unwrap();
    let whole = fs::read(lab.journal_path()).unwrap();
    // Cut within the line that closes the journal, which is not an event.
    fs::write(lab.journal_path(), &whole[..whole.len() - 9]).unwrap();
    let mut follower = follow(lab.path(), Position::START, Duration::ZERO).unwrap();
    let mut given = 0;
    while let Followed::Event(_) = follower.next(Duration::ZERO).unwrap() {
        given += 1;
    }
    assert_eq!(given, 2);
    let mut file = OpenOptions::new()
        .append(true)
        .open(lab.journal_path())
        .unwrap();
    file.write_all(&whole[whole.len() - 9..]).unwrap();
    drop(locked);
    assert_eq!(all(&mut follower), (vec![], vec!["ended".to_owned()]));
}

#[test]
fn whoever_keeps_the_position_goes_on_from_there() {
    let lab = Lab::new();
    let _locked = lock(lab.path());
    let mut journal = lab.create();
    for number in 1..=9 {
        note(&mut journal, number);
        journal.checkpoint(stamp(number)).unwrap();
    }
    let (mut kept, mut seen) = (Position::START, Vec::new());
    loop {
        // Each event in a new follower, as after a restart.
        let text = kept.to_string();
        let mut follower = follow(lab.path(), text.parse().unwrap(), Duration::ZERO).unwrap();
        match follower.next(Duration::ZERO).unwrap() {
            Followed::Event(envelope) => seen.push(envelope.seq),
            Followed::Ended => break,
            other => panic!("{other:?}"),
        }
        kept = follower.position();
        if seen.len() == 9 {
            end(&mut journal);
        }
    }
    assert_eq!(seen, (1..=10).collect::<Vec<u64>>());
    // It knows that the end comes before its position.
    journal.finish(stamp(11)).unwrap();
    let mut follower = follow(lab.path(), kept, Duration::ZERO).unwrap();
    assert_eq!(all(&mut follower), (vec![], vec!["ended".to_owned()]));
}

#[test]
fn a_position_of_another_journal_is_refused() {
    let lab = Lab::new();
    let mut journal = lab.create();
    note(&mut journal, 1);
    let size = fs::metadata(lab.journal_path()).unwrap().len();
    for (text, found) in [("7", None), ("99999", Some(size))] {
        let position = text.parse().unwrap();
        match follow(lab.path(), position, Duration::ZERO) {
            Err(FollowError::Position { wanted, found: at }) => {
                assert_eq!(wanted, position.bytes());
                assert!(found.is_none_or(|found| found == at), "{at}");
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("{text} was taken"),
        }
    }
}

#[test]
fn a_journal_that_never_comes_is_waited_for_as_long_as_was_said() {
    let lab = Lab::new();
    let begun = Instant::now();
    let missing = follow(lab.path(), Position::START, Duration::from_millis(60));
    assert!(
        matches!(missing, Err(FollowError::Read(ReadError::Io { .. }))),
        "no journal"
    );
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

/// Returns the processor time of this thread.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn a_follower_that_waits_does_not_look_all_the_time() {
    let lab = Lab::new();
    let _locked = lock(lab.path());
    let mut journal = lab.create();
    note(&mut journal, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Others query the lock again and again, which must not wake the follower.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                stockade_journal::layout::is_live(lab.path()).unwrap();
            }
        });
        let mut follower = follow(lab.path(), Position::START, Duration::ZERO).unwrap();
        let mut events = 0;
        while let Followed::Event(_) = follower.next(Duration::from_millis(300)).unwrap() {
            events += 1;
        }
        let before = used();
        follower.next(Duration::from_secs(2)).unwrap();
        let used = used().saturating_sub(before);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(events, 1);
        assert!(used < Duration::from_millis(20), "{used:?}");
    });
}
