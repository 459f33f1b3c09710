//! The desk, the text of questions, and the socket.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stockade_policy::{
    AskStage, Decision, ExecRequest, NetRequest, Origin, Request, Reviewer, Scope,
};
use stockade_types::{ApprovalId, DecisionId, Digest, Port, RawText, Subject, UnixMillis, Verdict};

use super::*;

/// No test needs longer, and none may hang.
const PATIENCE: Duration = Duration::from_secs(10);

fn decision(verdict: Verdict, scope_max: Scope) -> Decision {
    Decision {
        verdict,
        rule: "unfamiliar-host".parse().ok(),
        rules: vec!["unfamiliar-host".parse().unwrap()],
        origin: Some(Origin::Builtin),
        reason: "no rule names this host".to_owned(),
        failed_condition: None,
        nearest_allow: None,
        remedy: String::new(),
        stage: Some(AskStage {
            reviewer: Reviewer::Human,
            expires: "5m".parse().unwrap(),
            scope_max,
        }),
        private: false,
        http_only: false,
    }
}

fn connect(host: &str) -> Request {
    Request::Net(NetRequest {
        host: host.parse().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject {
            exe: "/usr/bin/node".into(),
            argv: vec!["npm".into(), "install".into(), "left-pad".into()],
            ancestry: vec!["bash -lc \"npm install left-pad\"".into(), "codex".into()],
            ..Subject::default()
        },
    })
}

fn run(argv: &[&str], digest: Option<Digest>) -> Request {
    Request::Exec(ExecRequest {
        program: "/usr/bin/git".into(),
        invoked_as: "/usr/bin/git".into(),
        digest,
        argv: argv.iter().map(|word| RawText::from(*word)).collect(),
        cwd: "/home/u/src".into(),
        ..ExecRequest::default()
    })
}

struct Lab {
    desk: Arc<Desk>,
    time: Arc<AtomicU64>,
    events: Arc<Mutex<Vec<String>>>,
    broken: Arc<AtomicBool>,
}

impl Lab {
    fn new(mode: AskMode) -> Self {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let events = Arc::new(Mutex::new(Vec::new()));
        let broken = Arc::new(AtomicBool::new(false));
        let clock = Arc::clone(&time);
        let (seen, fails) = (Arc::clone(&events), Arc::clone(&broken));
        let observer = move |event: &DeskEvent<'_>| {
            let line = match event {
                DeskEvent::Requested { .. } => "requested".to_owned(),
                DeskEvent::Decided {
                    verdict, by, scope, ..
                } => {
                    format!(
                        "{verdict} by {by} {}",
                        scope.map(|s| s.to_string()).unwrap_or_default()
                    )
                }
                DeskEvent::Used { decision, .. } => format!("used for {decision}"),
                DeskEvent::Revoked { by, .. } => format!("revoked by {by}"),
            };
            seen.lock().unwrap().push(line.trim().to_owned());
            if fails.load(Ordering::SeqCst) {
                Err("the disk is full".to_owned())
            } else {
                Ok(())
            }
        };
        let desk = Desk::new(
            mode,
            "codex".to_owned(),
            Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
            Box::new(observer),
        );
        Self {
            desk: Arc::new(desk),
            time,
            events,
            broken,
        }
    }

    fn ask(&self, request: Request, scope_max: Scope) -> JoinHandle<Outcome> {
        self.ask_while(request, scope_max, Arc::new(AtomicBool::new(true)))
    }

    fn ask_while(
        &self,
        request: Request,
        scope_max: Scope,
        wanted: Arc<AtomicBool>,
    ) -> JoinHandle<Outcome> {
        let desk = Arc::clone(&self.desk);
        std::thread::spawn(move || {
            let asked = decision(Verdict::Ask, scope_max);
            desk.ask(&Asker {
                request: &request,
                decision: &asked,
                decision_id: DecisionId::new(19),
                revision: Digest::of(b"policy"),
                intent: None,
                decide: &|approvals| {
                    let verdict = if approvals.is_empty() {
                        Verdict::Ask
                    } else {
                        Verdict::Allow
                    };
                    decision(verdict, scope_max)
                },
                wanted: &|| wanted.load(Ordering::SeqCst),
            })
        })
    }

    fn pending(&self, count: usize) -> Vec<Question> {
        let begun = Instant::now();
        loop {
            let pending = self.desk.pending();
            if pending.len() == count {
                return pending;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{count} expected, got {pending:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn waiting(&self, count: u32) -> ApprovalId {
        let begun = Instant::now();
        loop {
            if let [view] = self.desk.views().as_slice()
                && view.waiting == count
            {
                return view.id.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "nobody waits");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

fn allow(scope: Scope) -> Answer {
    Answer::Allow { scope }
}

fn deny() -> Answer {
    Answer::Deny {
        reason: Some("open a PR".to_owned()),
    }
}

fn refused_by(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused { by, .. } => by,
        Outcome::Granted { id, .. } => panic!("granted {id}"),
    }
}

#[test]
fn once_lets_one_request_through_and_asks_the_next() {
    let lab = Lab::new(AskMode::Tty);
    let first = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Once), "terminal")
        .unwrap();
    assert!(matches!(first.join().unwrap(), Outcome::Granted { id: used, .. } if used == id));
    assert_eq!(
        lab.events(),
        ["requested", "allow by terminal once", "used for d-19"]
    );

    let second = lab.ask(connect("registry.test"), Scope::Session);
    let again = lab.pending(1)[0].id.clone();
    assert_ne!(again, id);
    lab.desk.answer(&again, deny(), "terminal").unwrap();
    let expected = Outcome::Refused {
        id: Some(again),
        by: "terminal".to_owned(),
        reason: "open a PR".to_owned(),
    };
    assert_eq!(second.join().unwrap(), expected);
}

#[test]
fn a_session_grant_needs_no_second_question_and_ends_when_it_is_revoked() {
    let lab = Lab::new(AskMode::Inbox);
    let first = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), "inbox uid 1000")
        .unwrap();
    assert!(matches!(first.join().unwrap(), Outcome::Granted { .. }));
    let second = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert!(matches!(second, Outcome::Granted { .. }));

    let elsewhere = lab.ask(connect("paste.test"), Scope::Session);
    let other = lab.pending(1)[0].id.clone();
    lab.desk.answer(&other, deny(), "terminal").unwrap();
    assert_eq!(refused_by(elsewhere.join().unwrap()), "terminal");

    assert_eq!(lab.desk.revoke(&id, "terminal"), Ok(true));
    assert_eq!(lab.desk.revoke(&id, "terminal"), Ok(false));
    assert!(lab.events().contains(&"revoked by terminal".to_owned()));
    let third = lab.ask(connect("registry.test"), Scope::Session);
    assert_eq!(lab.pending(1).len(), 1);
    lab.desk.close();
    assert_eq!(refused_by(third.join().unwrap()), "session-end");
}

#[test]
fn requests_of_one_shape_share_a_question() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..5)
        .map(|_| lab.ask(connect("registry.test"), Scope::Session))
        .collect();
    let id = lab.waiting(5);
    lab.desk
        .answer(&id, allow(Scope::Session), "terminal")
        .unwrap();
    for ask in asks {
        assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    }
    assert_eq!(
        lab.events()
            .iter()
            .filter(|event| *event == "requested")
            .count(),
        1
    );
}

#[test]
fn once_for_several_lets_exactly_one_through() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..3)
        .map(|_| lab.ask(connect("registry.test"), Scope::Session))
        .collect();
    let id = lab.waiting(3);
    lab.desk
        .answer(&id, allow(Scope::Once), "terminal")
        .unwrap();
    let next = lab.waiting(2);
    assert_ne!(next, id);
    lab.desk.answer(&next, deny(), "terminal").unwrap();
    let outcomes: Vec<Outcome> = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
    let granted = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Granted { .. }))
        .count();
    assert_eq!(granted, 1, "{outcomes:?}");
}

#[test]
fn an_answer_is_final() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("paste.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk.answer(&id, deny(), "terminal").unwrap();
    for answer in [allow(Scope::Once), allow(Scope::Session), deny()] {
        let error = lab.desk.answer(&id, answer, "inbox uid 1000").unwrap_err();
        assert!(
            matches!(
                error,
                AnswerError::Settled {
                    verdict: Verdict::Deny,
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    assert!(lab.desk.grants().is_empty());
    let unknown = ApprovalId::from_random(7);
    assert_eq!(
        lab.desk.answer(&unknown, deny(), "terminal"),
        Err(AnswerError::Unknown(unknown))
    );
}

#[test]
fn an_expired_question_is_denied_and_cannot_be_allowed() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let question = lab.pending(1).remove(0);
    assert_eq!(question.expires.0 - question.asked.0, 300_000);
    lab.time.store(question.expires.0, Ordering::SeqCst);
    let late = lab
        .desk
        .answer(&question.id, allow(Scope::Once), "terminal")
        .unwrap_err();
    assert!(
        matches!(late, AnswerError::Expired(_) | AnswerError::Settled { .. }),
        "{late}"
    );
    assert_eq!(refused_by(ask.join().unwrap()), "timeout");
    assert!(lab.events().contains(&"deny by timeout".to_owned()));
}

#[test]
fn what_is_not_recorded_is_denied() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.broken.store(true, Ordering::SeqCst);
    let error = lab
        .desk
        .answer(&id, allow(Scope::Session), "terminal")
        .unwrap_err();
    assert_eq!(
        error,
        AnswerError::NotRecorded("the disk is full".to_owned())
    );
    assert_eq!(refused_by(ask.join().unwrap()), "journal");
    assert!(lab.desk.grants().is_empty());

    let unseen = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(unseen), "journal");
    assert!(lab.desk.pending().is_empty());
}

#[test]
fn a_use_that_is_not_recorded_is_denied() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), "terminal")
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    lab.broken.store(true, Ordering::SeqCst);
    let second = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(second), "journal");
}

#[test]
fn the_third_denial_of_a_shape_is_the_last_question() {
    let lab = Lab::new(AskMode::Tty);
    for _ in 0..3 {
        let ask = lab.ask(connect("paste.test"), Scope::Session);
        let id = lab.pending(1)[0].id.clone();
        lab.desk.answer(&id, deny(), "terminal").unwrap();
        assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    }
    let asked = lab.events().len();
    let fourth = lab
        .ask(connect("paste.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(fourth), "denied-before");
    assert_eq!(lab.events().len(), asked, "nobody was asked");
    let other = lab.ask(connect("registry.test"), Scope::Session);
    assert_eq!(lab.pending(1).len(), 1, "another host is another question");
    lab.desk.close();
    assert_eq!(refused_by(other.join().unwrap()), "session-end");
}

#[test]
fn without_anyone_to_ask_an_ask_is_a_deny() {
    let lab = Lab::new(AskMode::Deny);
    let outcome = lab
        .ask(connect("registry.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(outcome), "no-one-to-ask");
    assert_eq!(lab.events(), ["requested", "deny by no-one-to-ask"]);
}

#[test]
fn no_grant_is_wider_than_the_question() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Uses(3));
    let id = lab.pending(1)[0].id.clone();
    for scope in [
        Scope::Session,
        Scope::Uses(4),
        Scope::Until(UnixMillis(u64::MAX)),
    ] {
        let error = lab.desk.answer(&id, allow(scope), "terminal").unwrap_err();
        assert!(matches!(error, AnswerError::TooWide { .. }), "{error}");
    }
    lab.desk
        .answer(&id, allow(Scope::Uses(3)), "terminal")
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));

    let anonymous = lab.ask(run(&["git", "push"], None), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    let error = lab
        .desk
        .answer(&id, allow(Scope::Session), "terminal")
        .unwrap_err();
    assert!(matches!(error, AnswerError::TooWide { .. }), "{error}");
    lab.desk
        .answer(&id, allow(Scope::Once), "terminal")
        .unwrap();
    assert!(matches!(anonymous.join().unwrap(), Outcome::Granted { .. }));
}

#[test]
fn a_grant_binds_the_exact_command() {
    let lab = Lab::new(AskMode::Tty);
    let digest = Some(Digest::of(b"git"));
    let ask = lab.ask(run(&["git", "push", "origin"], digest), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    lab.desk
        .answer(&id, allow(Scope::Session), "terminal")
        .unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    let others = [
        run(&["git", "push", "--force"], digest),
        run(&["git", "push", "origin"], Some(Digest::of(b"another git"))),
    ];
    for other in others {
        let ask = lab.ask(other, Scope::Session);
        let id = lab.pending(1)[0].id.clone();
        lab.desk.answer(&id, deny(), "terminal").unwrap();
        assert_eq!(refused_by(ask.join().unwrap()), "terminal");
    }
}

#[test]
fn a_question_ends_with_the_process_that_asked() {
    let lab = Lab::new(AskMode::Tty);
    let wanted = Arc::new(AtomicBool::new(true));
    let ask = lab.ask_while(
        connect("registry.test"),
        Scope::Session,
        Arc::clone(&wanted),
    );
    assert_eq!(lab.pending(1).len(), 1);
    wanted.store(false, Ordering::SeqCst);
    assert_eq!(refused_by(ask.join().unwrap()), "withdrawn");
    assert!(lab.desk.pending().is_empty());
    assert!(lab.events().contains(&"deny by withdrawn".to_owned()));
}

#[test]
fn too_many_questions_are_denied() {
    let lab = Lab::new(AskMode::Tty);
    let asks: Vec<_> = (0..30)
        .map(|n| lab.ask(connect(&format!("h{n}.test")), Scope::Session))
        .collect();
    lab.pending(30);
    let more = lab
        .ask(connect("more.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(more), "desk");
    lab.desk.close();
    for ask in asks {
        assert_eq!(refused_by(ask.join().unwrap()), "session-end");
    }
    let after = lab
        .ask(connect("after.test"), Scope::Session)
        .join()
        .unwrap();
    assert_eq!(refused_by(after), "session-end");
}

#[test]
fn hostile_text_is_shown_not_obeyed() {
    let lab = Lab::new(AskMode::Tty);
    let hostile = ["git", "push\x1b[2J\u{202e}", "a b", "", "it's"];
    let ask = lab.ask(run(&hostile, Some(Digest::of(b"git"))), Scope::Session);
    let question = lab.pending(1).remove(0);
    let shown = question.shown();
    let text = shown.to_string();
    assert!(
        text.contains("git 'push\\u{1b}[2J\\u{202e}' 'a b' '' 'it'\\''s'"),
        "{text}"
    );
    assert!(
        text.chars().all(|c| !c.is_control() || c == '\n'),
        "{text:?}"
    );
    assert_eq!(shown.warnings.len(), 1, "{text}");
    let json = serde_json::to_string(&shown).unwrap();
    assert_eq!(serde_json::from_str::<Shown>(&json).unwrap(), shown);
    lab.desk.close();
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}

#[test]
fn a_question_says_what_and_why() {
    let lab = Lab::new(AskMode::Tty);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let text = lab.pending(1)[0].shown().to_string();
    let expected = "\
codex wants to
  connect   registry.test:443
  by        /usr/bin/node  npm install left-pad
            ← bash -lc \"npm install left-pad\" ← codex
  why asked rule unfamiliar-host (builtin): no rule names this host
  once lets one connection, with any method and path on it
  uses let  exactly this, that many times
  would let this session: any program here, any method and path, on this host and port
";
    assert_eq!(text, expected);
    lab.desk.close();
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}

// -- the socket ----------------------------------------------------------------------------

/// Lets in the user of this process although it is the supervisor itself.
fn open_to_us() -> InboxOptions {
    InboxOptions {
        supervisor: i32::MAX,
        ..InboxOptions::this_process()
    }
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A server that has refused already does not read on.
    stream.write_all(bytes).ok();
    stream.shutdown(std::net::Shutdown::Write).ok();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok();
    text
}

#[test]
fn a_second_terminal_sees_and_answers() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap();
    let mode = std::fs::metadata(inbox.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();

    let mut client = Client::connect(home.path()).unwrap();
    let list = client.list().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].summary, "connect registry.test:443");
    let view = client.show(&id).unwrap();
    assert_eq!(view, lab.desk.views()[0]);
    client.answer(&id, allow(Scope::Session)).unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
    let uid = open_to_us().uid;
    assert!(
        lab.events()
            .contains(&format!("allow by inbox uid {uid} session"))
    );

    assert_eq!(client.grants().unwrap(), lab.desk.grants());
    client.revoke(&id).unwrap();
    assert!(lab.desk.grants()[0].revoked);
    let again = client
        .answer(&id, allow(Scope::Once))
        .unwrap_err()
        .to_string();
    assert!(again.contains("an answer is final"), "{again}");
    drop(inbox);
    assert!(Client::connect(home.path()).unwrap_err().is_over());
}

#[test]
fn watching_tells_of_each_change() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap();
    let stream = UnixStream::connect(inbox.path()).unwrap();
    let mut out = stream.try_clone().unwrap();
    out.write_all(b"{\"op\":\"watch\"}\n").unwrap();
    let mut frames = super::protocol::Frames::new(stream, 1 << 20);
    let mut next = || {
        let line = frames.next(PATIENCE).unwrap().unwrap();
        match serde_json::from_slice(&line).unwrap() {
            Reply::Questions { questions } => questions.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(next(), 0);
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    assert_eq!(next(), 1);
    lab.desk.close();
    assert_eq!(next(), 0);
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap();
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    let wide =
        format!("{{\"op\":\"answer\",\"id\":\"{id}\",\"answer\":{{\"verdict\":\"allow\"}}}}\n");
    let cases: [Vec<u8>; 7] = [
        b"\xff\xfe\x00\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"{\"op\":\"allow-everything\"}\n".to_vec(),
        b"{\"op\":\"list\",\"extra\":1}\n".to_vec(),
        b"{\"op\":\"show\",\"id\":\"../../x\"}\n".to_vec(),
        wide.into_bytes(),
        vec![b'x'; 1 << 16],
    ];
    for case in cases {
        let reply = raw(inbox.path(), &case);
        assert!(
            reply.is_empty() || reply.starts_with("{\"reply\":\"refused\""),
            "{:?}: {reply}",
            String::from_utf8_lossy(&case[..case.len().min(40)])
        );
    }
    assert_eq!(
        raw(inbox.path(), b"{\"op\":\"list\"}"),
        "{\"reply\":\"refused\",\"error\":\"the connection ended in the middle of a line\"}\n"
    );
    assert_eq!(lab.pending(1)[0].id, id, "still open");
    assert_eq!(
        Client::connect(home.path()).unwrap().list().unwrap().len(),
        1
    );
    lab.desk.close();
    assert_eq!(refused_by(ask.join().unwrap()), "session-end");
}

#[test]
fn clients_are_bounded() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap();
    let mut clients: Vec<Client> = (0..16)
        .map(|_| Client::connect(home.path()).unwrap())
        .collect();
    for client in &mut clients {
        assert_eq!(client.list().unwrap(), []);
    }
    let error = Client::connect(home.path())
        .unwrap()
        .list()
        .unwrap_err()
        .to_string();
    assert!(error.contains("16 clients"), "{error}");
    drop(clients);
    let begun = Instant::now();
    while Client::connect(home.path()).unwrap().list().is_err() {
        assert!(begun.elapsed() < PATIENCE, "places were not freed");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(inbox);
}

#[test]
fn strangers_and_the_session_itself_are_not_let_in() {
    let options = InboxOptions::this_process();
    let us = rustix::process::getpid().as_raw_nonzero().get();
    let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
    let uid = options.uid;
    assert_eq!(options.admit(Peer { uid, pid: parent }), Ok(()));
    assert!(
        options
            .admit(Peer {
                uid: uid + 1,
                pid: parent
            })
            .unwrap_err()
            .contains("may not")
    );
    assert!(
        options
            .admit(Peer { uid, pid: us })
            .unwrap_err()
            .contains("session")
    );
    assert!(
        options
            .admit(Peer { uid, pid: 0 })
            .unwrap_err()
            .contains("namespace")
    );
    let gone = i32::MAX;
    assert!(
        options
            .admit(Peer { uid, pid: gone })
            .unwrap_err()
            .contains("gone")
    );

    // The same over the socket: this process is the supervisor, so its own client is refused.
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), options).unwrap();
    let error = Client::connect(home.path()).unwrap().list().unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(text) if text.contains("session")),
        "{error}"
    );
    drop(inbox);
    let stranger = InboxOptions {
        uid: uid + 1,
        ..open_to_us()
    };
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), stranger).unwrap();
    let error = Client::connect(home.path()).unwrap().list().unwrap_err();
    assert!(
        matches!(&error, ClientError::Refused(text) if text.contains("uid")),
        "{error}"
    );
    drop(inbox);
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap_err();
    assert!(matches!(error, InboxError::Directory { .. }), "{error}");
    assert!(matches!(
        Client::connect(home.path()),
        Err(ClientError::Directory(_))
    ));
}

#[test]
fn a_long_state_directory_is_no_obstacle() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let deep = home.path().join("x".repeat(200));
    std::fs::create_dir(&deep).unwrap();
    std::fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o700)).unwrap();
    let inbox = Inbox::open(&deep, Arc::clone(&lab.desk), open_to_us()).unwrap();
    assert_eq!(Client::connect(&deep).unwrap().list().unwrap(), []);
    assert!(inbox.path().ends_with(SOCKET_NAME));
}
