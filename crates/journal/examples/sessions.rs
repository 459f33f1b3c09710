//! Makes records with which to measure readers: `cargo run -p stockade-journal --example sessions
//! STATE COUNT` writes the events of the one session in STATE again, in COUNT sessions with other
//! names.
#![expect(
    clippy::unwrap_used,
    reason = "what is wrong is for whoever measures, at its place"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use stockade_event::{Durability, Envelope, Stamp};
use stockade_journal::{
    Entry, Journal, SigningKey,
    layout::{KEY_FILE, LOCK_FILE, SESSIONS_DIR, session_dir},
    pack, read,
};
use stockade_types::SessionId;

/// The time between two sessions.
const PAUSE_NS: u64 = 60_000_000_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let state = PathBuf::from(arguments.next().unwrap());
    let count: u64 = arguments.next().unwrap().parse().unwrap();
    let mut sessions = fs::read_dir(state.join(SESSIONS_DIR)).unwrap();
    let source = sessions.next().unwrap().unwrap().path();
    let events: Vec<Envelope> = read(&source).unwrap().map(Result::unwrap).collect();
    for number in 1..=count {
        write(&state, &events, number, count);
    }
}

fn write(state: &Path, events: &[Envelope], number: u64, count: u64) {
    let session = SessionId::from_random(number);
    let dir = session_dir(state, &session);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(LOCK_FILE), "").unwrap();
    let key = SigningKey::load(&state.join(KEY_FILE)).unwrap();
    let mut journal = Journal::create(&dir, session, key).unwrap();
    let earlier = (count - number + 1) * PAUSE_NS;
    let stamp = |event: &Envelope| Stamp {
        time_unix_ns: event.time_unix_ns - earlier,
        mono_ns: event.mono_ns,
    };
    for event in events {
        let entry = Entry {
            process: event.process.as_ref(),
            scope: event.scope.as_deref(),
            cause: None,
            event: &event.event,
        };
        journal
            .append_all(stamp(event), &event.source, &[entry], Durability::Written)
            .unwrap();
    }
    journal.finish(stamp(events.last().unwrap())).unwrap();
    pack(&dir).unwrap();
}
