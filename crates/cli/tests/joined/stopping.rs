//! A person ends a session from its page.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Joined, until, votes::Person};

/// From the click to the end of the last process.
const STOPPED_MAX: Duration = Duration::from_secs(2);
/// What no other process on the machine has in its command line.
const MARK: &str = "98765.4321";

/// Counts processes, of whatever namespace, that have the mark in their command line as a program of the
/// session.
fn sleepers() -> usize {
    let is_one = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|word| word.ends_with(b"sleep"))
            && words.next() == Some(MARK.as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| is_one(name)).count()
}

/// The tree of a session is gone two seconds after the click, whatever its programs do about signals; a
/// click by who may not changes nothing.
#[test]
fn a_click_ends_the_whole_tree_of_a_session_within_two_seconds() {
    let mut joined = Joined::new();
    drop(Person::new(&joined, "ann", &joined.link).invites("bob", "viewer"));
    joined.enrol_for(&["--owner", "ann"]);
    joined.start_agent();
    let (ann, bob) = (joined.person("ann"), joined.person("bob"));
    let stubborn = format!(
        "trap '' TERM HUP INT; for i in 1 2 3; do (trap '' TERM; setsid sleep {MARK} & wait) & done; sleep {MARK}"
    );
    let session = joined
        .env
        .session_with(joined.repo.path(), &["--ask", "deny"])
        .line(stubborn)
        .spawn();
    until("the tree is there", || sleepers() == 4);
    let id = joined.env.session_id();
    let mut page = String::new();
    let is_here = |person: &Person<'_>| {
        let all = person.data("/api/v1/sessions");
        let all = all.get("sessions").and_then(Value::as_array).cloned();
        let mut all = all.unwrap_or_default().into_iter();
        let own = all.find(|one| one.get("id").and_then(Value::as_str) == Some(&id))?;
        let node = own.get("node").and_then(Value::as_str)?.to_owned();
        Some(format!("/sessions/{node}/{id}"))
    };
    until("the session is on the page", || {
        page = is_here(&ann).unwrap_or_default();
        !page.is_empty()
    });
    let stop = format!("{page}/stop");
    let refused = bob.post(&stop, &[("token", bob.field("/me", "token").as_str())]);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(sleepers(), 4, "the control: nothing has ended");
    let token = ann.field(&page, "token");
    let clicked = Instant::now();
    ann.post(&stop, &[("token", token.as_str())])
        .expect("it is told");
    while sleepers() > 0 {
        assert!(clicked.elapsed() < STOPPED_MAX, "{} are left", sleepers());
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = clicked.elapsed();
    assert!(took < STOPPED_MAX, "{took:?}");
    drop(session.wait());
    until("the server has the record to its end", || {
        joined.is_held(&id)
    });
}
