//! A server that starts in a session: a person is asked whether to make it reachable outside, and
//! without a yes it is not.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use stockade_testkit::{approvals, events::Event, run::require_tool, wait};

use crate::terminal::lab::{BOX, LONG, Lab, answer, end, free_ports};

/// Longer than a server must exist before it is asked about, on a busy machine.
const NOTICED: Duration = Duration::from_secs(5);
/// Listens on each of the given ports.
const SERVERS: &str = "import http.server, sys, threading\n\
    for port in map(int, sys.argv[1:]):\n\
    \x20   server = http.server.ThreadingHTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler)\n\
    \x20   threading.Thread(target=server.serve_forever).start()\n";

fn page(port: u16) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    stream.write_all(b"GET /here HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn is_here(port: u16) -> bool {
    page(port).is_some_and(|text| text.contains("it is here"))
}

/// Makes a line that serves on ports until the file `over` exists.
fn serve(lab: &Lab, ports: &[u16]) -> String {
    require_tool("python3");
    lab.env.write(lab.repo.path().join("here"), "it is here\n");
    lab.env.write(lab.repo.path().join("servers.py"), SERVERS);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!(
        "python3 servers.py {} 2>/dev/null & until [ -e over ]; do sleep 0.1; done; kill $!; wait",
        ports.join(" ")
    )
}

fn over(lab: &Lab) {
    lab.env.write(lab.repo.path().join("over"), "");
}

fn asked(record: &[Event]) -> Vec<&Event> {
    let asked = record
        .iter()
        .filter(|event| event.kind() == "approval.requested");
    asked.collect()
}

/// The box is that of every question; the server is not blocked meanwhile, and is reachable outside
/// after a yes, until that is revoked.
#[test]
fn a_server_is_opened_by_a_yes_and_for_as_long_as_that_holds() {
    let lab = Lab::new();
    let [port, other] = free_ports();
    let line = format!(
        "({}) & until curl -sf -o inside http://127.0.0.1:{port}/here; do sleep 0.1; done; wait",
        serve(&lab, &[port])
    );
    let mut terminal = lab.open_sized(24, 100, &line);
    terminal.wait_for(&format!("port {port} as http://127.0.0.1:{port}"), LONG);
    let text = terminal.text();
    for part in [BOX, "a server listens", "servers.py", "rule listening-port"] {
        assert!(text.contains(part), "expected {part}:\n{text}");
    }
    assert!(!text.contains("[s]ession"), "no wider than this:\n{text}");
    assert_eq!(lab.file("inside"), "it is here\n", "nobody was held");
    assert_eq!(page(port), None, "nothing is there without a yes");
    answer(&terminal, "o");
    assert!(
        wait::until_true(LONG, || is_here(port)),
        "{}",
        terminal.text()
    );
    assert_eq!(page(other), None, "and nothing beside it");
    // A client stays connected only as long as the answer is in force.
    let mut held = TcpStream::connect(("127.0.0.1", port)).expect("it is open");
    held.set_read_timeout(Some(LONG)).expect("a socket");
    let record = lab.record();
    let used = record.iter().find(|event| event.kind() == "approval.used");
    let id = used.expect("it was used").field("approval");
    lab.stockade(&["approvals", "revoke", id]).success();
    let read = held.read(&mut [0]);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(
        wait::until_true(LONG, || page(port).is_none()),
        "it is closed"
    );
    over(&lab);
    assert_eq!(end(&mut terminal), 0);
    assert_eq!(lab.answers(), ["allow by terminal"]);
    let record = lab.record();
    let kinds: Vec<&str> = record.iter().map(Event::kind).collect();
    let order = [
        "approval.requested",
        "approval.decided",
        "approval.used",
        "port.published",
    ];
    let places: Vec<_> = order
        .iter()
        .map(|kind| kinds.iter().position(|k| k == kind))
        .collect();
    assert!(
        places.is_sorted() && places.iter().all(Option::is_some),
        "{places:?}"
    );
    let opened = record.iter().find(|event| event.kind() == "port.published");
    let by = opened.expect("it is recorded").field("by");
    assert!(by.starts_with("approval "), "{by}");
}

/// A no is for that port, which is not asked about again; a no for the session is for all others.
#[test]
fn a_no_opens_nothing_and_a_no_for_the_session_ends_the_questions() {
    let lab = Lab::new();
    let [first, second, third] = free_ports();
    let line = format!(
        "({}) & until [ -e more ]; do sleep 0.1; done; ({}) & wait",
        serve(&lab, &[first, second]),
        serve(&lab, &[third])
    );
    let mut terminal = lab.open_sized(24, 100, &line);
    for (number, key) in [("of 2 ", "d"), ("of 1 ", "x")] {
        terminal.wait_for(number, LONG);
        terminal.wait_for("[d]eny", LONG);
        terminal.send(key);
    }
    terminal.wait_without(BOX, LONG);
    lab.env.write(lab.repo.path().join("more"), "");
    thread::sleep(NOTICED);
    assert!(!terminal.text().contains(BOX), "{}", terminal.text());
    for port in [first, second, third] {
        assert_eq!(page(port), None, "{port}");
    }
    over(&lab);
    assert_eq!(end(&mut terminal), 0);
    let text = terminal.text();
    assert!(
        !text.contains("listened on"),
        "who said no is not told: {text}"
    );
    assert_eq!(lab.answers(), ["deny by terminal", "deny by terminal"]);
    assert_eq!(asked(&lab.record()).len(), 2);
}

/// A kept answer opens that port in later sessions when its server starts, not at the start of the
/// session, and ends with its rule; a port that another program uses by then does not prevent the
/// start.
#[test]
fn a_kept_answer_opens_the_port_of_a_later_server() {
    let lab = Lab::new();
    let [port] = free_ports();
    let line = serve(&lab, &[port]);
    let again = || {
        drop(std::fs::remove_file(lab.repo.path().join("over")));
        lab.run(&["--ask", "inbox"], &format!("touch started; {line}"))
            .spawn()
    };
    let mut terminal = lab.open_sized(24, 100, &line);
    terminal.wait_for("[a]lways", LONG);
    answer(&terminal, "a");
    assert!(
        wait::until_true(LONG, || is_here(port)),
        "{}",
        terminal.text()
    );
    over(&lab);
    assert_eq!(end(&mut terminal), 0);
    let list = lab.stockade(&["rules"]).success().stdout;
    let mut words = list.split_whitespace();
    let id = words.find(|word| word.starts_with("always-"));
    let id = id.unwrap_or_else(|| panic!("no rule was kept: {list}"));
    let running = again();
    assert!(
        wait::until_true(LONG, || is_here(port)),
        "{}",
        running.stderr()
    );
    over(&lab);
    running.wait().assert_code(0);
    assert_eq!(asked(&lab.record()).len(), 0, "nobody is asked");
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let running = again();
    lab.wait_file("started", "");
    over(&lab);
    running.wait().assert_code(0);
    drop(taken);
    lab.stockade(&["rules", "remove", id]).success();
    let running = again();
    lab.wait_asked(1);
    assert_eq!(page(port), None);
    over(&lab);
    running.wait().assert_code(0);
}

/// If no one is to be asked, or ports may not be published, or are already published or in use,
/// there is no question; in the inbox there is one about another port, and it ends with its server.
#[test]
fn a_server_is_asked_about_where_it_could_be_opened() {
    let lab = Lab::new();
    let [port, other] = free_ports();
    let text = "schema = 1\n[network]\npublish = false\n";
    let policy = lab.env.write("none.toml", text).display().to_string();
    let published = port.to_string();
    let cases: [(&[&str], bool, usize); 4] = [
        (&["--ask", "inbox"], true, 1),
        (&["--ask", "inbox", "--publish", &published], false, 1),
        (&["--ask", "deny"], false, 0),
        (&["--ask", "inbox", "--policy", &policy], false, 0),
    ];
    for (options, is_taken, count) in cases {
        let taken = is_taken.then(|| TcpListener::bind(("127.0.0.1", port)).expect("it is free"));
        let line = format!("{}; sleep 2", serve(&lab, &[port, other]));
        drop(std::fs::remove_file(lab.repo.path().join("over")));
        let running = lab.run(options, &line).spawn();
        if count > 0 {
            let asked = lab.wait_asked(count);
            let is_other = asked.iter().all(|one| one.mentions(&other.to_string()));
            assert!(is_other, "{options:?}: {asked:?}");
        } else {
            thread::sleep(NOTICED);
        }
        over(&lab);
        lab.wait_asked(0);
        running.wait().assert_code(0);
        drop(taken);
        let withdrawn = vec!["deny by withdrawn"; count];
        assert_eq!(lab.answers(), withdrawn, "{options:?}, taken {is_taken}");
        assert_eq!(asked(&lab.record()).len(), count);
    }
}

/// A program that listens on many ports cannot wear a person down: there are three questions,
/// whatever the answers.
#[test]
fn a_flood_of_servers_asks_three_times() {
    let lab = Lab::new();
    let ports: [u16; 12] = free_ports();
    let running = lab.run(&["--ask", "inbox"], &serve(&lab, &ports)).spawn();
    for one in lab.wait_asked(3) {
        let deny = approvals::Answer::Deny {
            reason: "no".to_owned(),
        };
        assert!(approvals::answer(&lab.env, &one.id, &deny).status.success());
    }
    lab.wait_asked(0);
    over(&lab);
    running.wait().assert_code(0);
    assert_eq!(asked(&lab.record()).len(), 3);
    for port in ports {
        assert_eq!(page(port), None, "{port}");
    }
}
