//! Services of the machine inside, and ports of the session outside.

use std::{
    fs::Permissions,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::Path,
    time::Duration,
};

use stockade_testkit::{
    Repo, TestEnv,
    events::{self, Event},
    lab::{Greeter, HttpServer},
    run::require_tool,
    wait,
};

use crate::network::{closed_port, for_each_user};

/// A local server is reached at the address that programs use outside, and nothing else is.
#[test]
fn a_named_service_of_the_machine_is_reached_by_its_own_address() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let other = HttpServer::start();
        let (port, stranger) = (server.port(), other.port());
        let named = format!("localhost:{port}");
        let far = format!("db.host.test:5432=127.0.0.1:{port}");
        let line = format!(
            "for host in localhost 127.0.0.1 '[::1]'; do curl -gsS -m 10 http://$host:{port}/; done; \
             curl -sS -m 10 http://db.host.test:5432/; \
             curl -sS -m 5 http://127.0.0.1:{stranger}/; echo stranger $?; \
             curl -sS -m 5 http://db.host.test:5433/; echo other $?"
        );
        let options = ["--ask", "deny", "--service", &named, "--service", &far];
        let output = env
            .session_with(env.repo().path(), &options)
            .line(&line)
            .output();
        output.assert_stdout("stranger 7\n").assert_stdout("other ");
        assert_eq!(server.requests().len(), 4, "{output:?}");
        other.assert_untouched();
        let record = env.record();
        let allowed = |event: &&Event| {
            event.kind() == "connection.decided" && event.rule() == format!("service:{named}")
        };
        assert_eq!(
            record.iter().filter(allowed).count(),
            3,
            "{}",
            events::summary(&record)
        );
    });
}

/// Databases speak first, or use a protocol other than HTTP; a service that is down is a refused
/// connection.
#[test]
fn a_service_may_speak_what_it_likes_and_may_be_down() {
    for_each_user(|env| {
        let server = Greeter::start("hello\n");
        let port = server.address().port();
        let shut = closed_port();
        let (up, down) = (format!("localhost:{port}"), format!("localhost:{shut}"));
        let line = format!(
            "exec 7<>/dev/tcp/127.0.0.1/{port}; read -r word <&7; echo got $word; \
             printf '\\0\\0\\0\\10\\4\\322\\26\\57' >&7; sleep 0.3; \
             (exec 8<>/dev/tcp/localhost/{shut}) 2>&1 | grep -o refused | head -1"
        );
        let options = ["--ask", "deny", "--service", &up, "--service", &down];
        let output = env
            .session_with(env.repo().path(), &options)
            .line(&line)
            .output();
        output
            .assert_stdout("got hello\n")
            .assert_stdout("refused\n");
        assert_eq!(
            server.received(),
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            "{output:?}"
        );
    });
}

/// What an organisation denies stays closed, and no cloud address becomes a service.
#[test]
fn a_service_opens_nothing_that_is_denied() {
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let deny = env.write(
            "organisation.toml",
            "schema = 1\n[[deny]]\nid = \"no-services\"\nwhat = \"net\"\nhosts = [\"localhost\"]\n",
        );
        let named = format!("localhost:{port}");
        let line = format!("curl -sS -m 5 http://127.0.0.1:{port}/; echo rc $?");
        let repo = env.repo();
        env.session_with(repo.path(), &["--ask", "deny", "--service", &named])
            .env("STOCKADE_ORG_POLICY", &deny)
            .line(&line)
            .output()
            .assert_stdout("rc ");
        server.assert_untouched();
        let record = env.record();
        let refused = record.iter().any(|event| event.rule() == "no-services");
        assert!(refused, "{}", events::summary(&record));
        for wrong in [
            "localhost:1=169.254.169.254:80",
            "localhost:53",
            "localhost:1=/run/x.sock",
        ] {
            env.session_with(repo.path(), &["--service", wrong])
                .line("true")
                .output()
                .assert_code(125);
        }
    });
}

/// Answers one line to every client of a socket, for as long as the test runs.
fn listen(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    // A client of a socket must be able to write it.
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("it is ours");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            drop(stream.read(&mut [0; 1024]));
            drop(stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nit is the machine\n"));
        }
    });
}

/// A socket of the machine is inside at the place that policy names, and cannot be moved away
/// there; a socket that controls the machine is not inside, through whatever link, nor is one that
/// a policy hides.
#[test]
fn a_socket_of_the_machine_is_a_service_by_its_path() {
    require_tool("curl");
    for_each_user(|env| {
        let (plain, control) = (env.root().join("db.sock"), env.root().join("docker.sock"));
        listen(&plain);
        listen(&control);
        let link = env.root().join("link.sock");
        symlink(&control, &link).expect("a link");
        let file = env.write("file.sock", "");
        let repo = env.repo();
        let run = |outside: &Path, more: &str| {
            let text = format!(
                "schema = 1\n[network.services]\n\"unix:/run/lab/db.sock\" = \"unix:{}\"\n{more}",
                outside.display()
            );
            let policy = env.write("policy.toml", &text).display().to_string();
            let line = format!(
                "curl -sS -m 5 --unix-socket /run/lab/db.sock http://db/; echo in $?; \
                 curl -s -m 5 --unix-socket {} http://db/; echo out $?; \
                 rm -f /run/lab/db.sock || echo kept; cat /run/stockade/boundary.md",
                outside.display()
            );
            let options = ["--ask", "deny", "--policy", policy.as_str()];
            env.session_with(repo.path(), &options).line(line).output()
        };
        run(&plain, "")
            .assert_stdout("it is the machine\nin 0\nout 7\nkept\n")
            .assert_stdout("Sockets of services of the machine: `/run/lab/db.sock`");
        let hidden = format!("[filesystem]\nhide = [\"{}\"]\n", plain.display());
        for (outside, more, note) in [
            (&plain, hidden.as_str(), "hidden by a policy"),
            (&env.root().join("none.sock"), "", "not here"),
        ] {
            let output = run(outside, more);
            output.assert_stdout("in 7\nout 7\n").assert_stderr(note);
        }
        for (outside, why) in [
            (&control, "starts containers"),
            (&link, "starts containers"),
            (&file, "is no socket"),
        ] {
            run(outside, "").assert_code(125).assert_stderr(why);
        }
        // From the command line, under its own path; without the option it is absent.
        let place = format!("unix:/run/lab/db.sock=unix:{}", plain.display());
        for (options, seen) in [(vec!["--service", place.as_str()], "0"), (Vec::new(), "7")] {
            let line = "curl -sS -m 5 --unix-socket /run/lab/db.sock http://db/; echo rc $?";
            let output = env.session_with(repo.path(), &options).line(line).output();
            output.assert_stdout(&format!("rc {seen}\n"));
        }
    });
}

fn answer(address: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return String::new();
    };
    let mut text = String::new();
    let asked = stream.write_all(b"GET /here HTTP/1.0\r\n\r\n");
    let read = stream.set_read_timeout(Some(Duration::from_secs(5)));
    drop((asked, read, stream.read_to_string(&mut text)));
    text
}

/// Starts a server inside and queries it from outside.
fn look(env: &TestEnv, repo: &Repo, command: &str, port: u16, outside: u16) {
    env.write(repo.path().join("here"), "it is here\n");
    let published = format!("{outside}:{port}");
    drop(std::fs::remove_file(repo.path().join("over")));
    let running = env
        .session_with(repo.path(), &["--ask", "deny", "--publish", &published])
        .line(format!(
            "{command} & while [ ! -e over ]; do sleep 0.1; done"
        ))
        .spawn();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, outside));
    let seen = wait::until_true(Duration::from_secs(30), || {
        answer(address).contains("it is here")
    });
    let six = answer(SocketAddr::from((Ipv6Addr::LOCALHOST, outside)));
    env.write(repo.path().join("over"), "");
    let output = running.wait();
    assert!(seen && six.contains("it is here"), "{six}: {output:?}");
    let record = env.record();
    let event = record.iter().find(|event| event.kind() == "port.published");
    let event = event.expect("it is in the record");
    let told = event
        .json
        .get("outside")
        .and_then(serde_json::Value::as_u64);
    assert_eq!(told, Some(outside.into()));
    // When the session has ended, the port is free again.
    TcpListener::bind(address).expect("the port is free");
}

/// Servers of either family are reached through a published port, by either address.
#[test]
fn a_published_port_is_reached_from_outside() {
    require_tool("python3");
    require_tool("node");
    for_each_user(|env| {
        let repo = env.repo();
        let (port, outside) = (closed_port(), closed_port());
        look(
            env,
            &repo,
            &format!("python3 -m http.server {port} --bind 127.0.0.1"),
            port,
            outside,
        );
        let script = "require('http').createServer((q, s) => s.end('it is here\\n'))";
        let node = format!("node -e \"{script}.listen({port}, '::1')\"");
        look(env, &repo, &node, port, outside);
    });
}

/// Nothing is published without a setting; a port in use prevents the session from starting, and so
/// does a port if an organisation forbids publishing.
#[test]
fn only_what_is_named_is_published() {
    require_tool("python3");
    for_each_user(|env| {
        let (port, named) = (closed_port(), closed_port());
        let repo = env.repo();
        let running = env
            .session_with(repo.path(), &["--ask", "deny", "--publish", &named.to_string()])
            .line(format!(
                "python3 -m http.server {port} & sleep 2; curl -s -o inside http://127.0.0.1:{port}/"
            ))
            .spawn();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(answer((Ipv4Addr::LOCALHOST, port).into()), "");
        assert_eq!(answer((Ipv4Addr::LOCALHOST, named).into()), "");
        running.wait();
        assert!(
            repo.path().join("inside").exists(),
            "the server was there inside"
        );
        let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let taken_port = taken.local_addr().expect("an address").port().to_string();
        env.session_with(repo.path(), &["--publish", &taken_port])
            .line("true")
            .output()
            .assert_code(125)
            .assert_stderr("cannot be published");
        let none = env.write(
            "organisation.toml",
            "schema = 1\n[network]\npublish = false\n",
        );
        env.session_with(repo.path(), &["--publish", "3000"])
            .env("STOCKADE_ORG_POLICY", none)
            .line("true")
            .output()
            .assert_code(125)
            .assert_stderr("network.publish = false");
    });
}
