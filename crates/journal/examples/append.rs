//! Measures the cost of recording a plain change of a file: `cargo run --release -p
//! stockade-journal --example append [DIR]`, with the journal in a new directory below DIR.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{fs, path::PathBuf, time::Instant};

use rustix::time::{ClockId, clock_gettime};
use stockade_event::{Durability, Event};
use stockade_journal::{Entry, Journal, SharedJournal, SigningKey, layout::JOURNAL_FILE};
use stockade_types::{Access, ProcessId, RawText, SessionId, Subject};

const EVENTS: u32 = 200_000;

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

fn main() {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("stockade-append-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let key = SigningKey::load_or_create(&dir.join("key")).unwrap();
    let journal = Journal::create(&dir, SessionId::from_random(1), key).unwrap();
    let journal = SharedJournal::new(journal, stockade_journal::now);
    let by = Subject {
        id: Some(ProcessId {
            pid: 123_456,
            start: 9_876_543,
        }),
        exe: "/usr/bin/node".into(),
        argv: vec![RawText::from("x".repeat(16_000).as_str())].into(),
        cwd: "/home/user/project".into(),
        ancestry: vec!["npm install".into(), "bash".into()].into(),
    };
    let events: Vec<Event> = (0..1000)
        .map(|number| Event::FileChanged {
            path: format!("/home/user/project/src/module/file-{number}.rs")
                .as_str()
                .into(),
            access: Access::Create,
            by: by.clone(),
            decision: None,
        })
        .collect();
    let (began, used) = (Instant::now(), cpu_ns());
    for event in events.iter().cycle().take(EVENTS as usize) {
        let entry = Entry {
            process: None,
            scope: Some("c-17"),
            cause: None,
            event,
        };
        journal
            .emit_all("supervisor", &[entry], Durability::Written)
            .unwrap();
    }
    let cpu = (cpu_ns() - used) / u64::from(EVENTS);
    let wall = began.elapsed().as_nanos() / u128::from(EVENTS);
    let bytes = fs::metadata(dir.join(JOURNAL_FILE)).unwrap().len() / u64::from(EVENTS);
    println!("{bytes} bytes, {cpu} ns of CPU, {wall} ns for an event");
    fs::remove_dir_all(&dir).unwrap();
}
