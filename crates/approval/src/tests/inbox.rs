//! The socket of a second terminal.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
};

use super::*;

/// Admits the user of this process although it is the supervisor itself.
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
    // A server that has already refused does not read on.
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

/// The answer can be what ends the session.
#[test]
fn who_answers_learns_that_it_was_taken_though_the_session_ends() {
    let lab = Lab::new(AskMode::Inbox);
    let home = directory();
    let inbox = Inbox::open(home.path(), Arc::clone(&lab.desk), open_to_us()).unwrap();
    let ask = lab.ask(connect("registry.test"), Scope::Session);
    let id = lab.pending(1)[0].id.clone();
    let mut client = Client::connect(home.path()).unwrap();
    // The answer is being written down while the session ends.
    let held = lab.events.lock().unwrap();
    let answering = std::thread::spawn(move || client.answer(&id, allow(Scope::Once)));
    std::thread::sleep(Duration::from_millis(100));
    let ending = std::thread::spawn(move || drop(inbox));
    std::thread::sleep(Duration::from_millis(100));
    drop(held);
    answering.join().unwrap().unwrap();
    ending.join().unwrap();
    assert!(matches!(ask.join().unwrap(), Outcome::Granted { .. }));
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

    // Over the socket too: this process is the supervisor, so its own client is refused.
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

/// A process that a test starts; it ends with the test.
struct Started(std::process::Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn nobody_of_another_world_is_let_in() {
    let options = open_to_us();
    let uid = options.uid;
    let start = |words: &[&str]| {
        let mut command = std::process::Command::new(words[0]);
        let child = command
            .args(&words[1..])
            .stdout(std::process::Stdio::piped());
        let mut child = Started(child.spawn().unwrap());
        // It writes a byte when it has reached its namespaces.
        let mut byte = [0];
        let out = child.0.stdout.as_mut().unwrap();
        out.read_exact(&mut byte).unwrap();
        let pid = i32::try_from(child.0.id()).unwrap();
        (child, pid)
    };
    let here = ["perl", "-e", "$| = 1; print 'x'; sleep 60"];
    let (_child, pid) = start(&here);
    assert_eq!(options.admit(Peer { uid, pid }), Ok(()), "control");
    // Every session also has its own mount namespace, but one difference is enough.
    for (namespaces, name) in [
        (&["--user", "--map-root-user"][..], "user"),
        (&["--user", "--map-root-user", "--mount"][..], "user"),
    ] {
        let words = [&["unshare"][..], namespaces, &here[..]].concat();
        let (_child, pid) = start(&words);
        let refused = options.admit(Peer { uid, pid }).unwrap_err();
        assert!(
            refused.contains(&format!("another {name} namespace")),
            "{refused}"
        );
    }
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_child, pid) = start(&[&["unshare", "--mount"][..], &here[..]].concat());
    let refused = options.admit(Peer { uid, pid }).unwrap_err();
    assert!(refused.contains("another mnt namespace"), "{refused}");
    let chroot = [
        "perl",
        "-e",
        "$| = 1; chroot '/usr' or die; print 'x'; sleep 60",
    ];
    let (_child, pid) = start(&chroot);
    let refused = options.admit(Peer { uid, pid }).unwrap_err();
    assert!(refused.contains("another root directory"), "{refused}");
    let fork = ["unshare", "--pid", "--fork"];
    let (parent, _) = start(&[&fork[..], &here[..]].concat());
    let children = format!("/proc/{0}/task/{0}/children", parent.0.id());
    let inner = std::fs::read_to_string(children).unwrap();
    let pid = inner.trim().parse().unwrap();
    let refused = options.admit(Peer { uid, pid }).unwrap_err();
    assert!(refused.contains("another pid namespace"), "{refused}");
    // It outlives its parent.
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
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
