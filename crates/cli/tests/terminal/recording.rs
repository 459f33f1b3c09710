//! What the terminal showed, recorded and played.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use stockade_testkit::{Run, pty::Terminal};

use crate::terminal::lab::{LONG, Lab};

/// Has the terminal recorded.
const ON: &str = "schema = 1\n[record]\nterminal = \"on\"\n";

/// A secret of a known form.
fn token() -> String {
    ["ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq"].concat()
}

/// Makes a session for a line whose id [`TestEnv::session_id`] knows.
///
/// [`TestEnv::session_id`]: stockade_testkit::TestEnv::session_id
fn session(lab: &Lab, options: &[&str], line: &str) -> Run {
    let file = lab.env.root().join("session");
    let file = file.to_str().unwrap();
    lab.run(
        &[&["--ask", "deny", "--session-file", file], options].concat(),
        line,
    )
}

struct Recorded {
    lab: Lab,
    id: String,
}

impl Recorded {
    fn path(&self) -> PathBuf {
        let sessions = self.lab.env.state().join("sessions");
        sessions.join(&self.id).join("terminal.cast")
    }

    fn verify(&self) -> (i32, String) {
        let output = self.lab.stockade(&["log", "verify", &self.id]).output();
        (output.code(), output.stdout)
    }

    /// Plays the recording in a terminal; returns all that the terminal got, and the exit code.
    fn play(&self, arguments: &[&str]) -> (Vec<u8>, i32) {
        let run = self.lab.stockade(&["replay", "--terminal", &self.id]);
        let mut terminal = Terminal::start(run.args(arguments).into_command(), 24, 80);
        let code = terminal.wait_exit(LONG).code().unwrap();
        (terminal.raw(), code)
    }
}

/// Runs a line in a terminal that is recorded, and types `keys` once `wait` is shown.
fn recorded(line: &str, wait: &str, keys: &str) -> Recorded {
    let lab = Lab::new();
    let policy = lab.env.write("on.toml", ON);
    let policy = policy.to_str().unwrap();
    let run = session(&lab, &["--policy", policy], line);
    let mut terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.wait_for(wait, LONG);
    terminal.resize(30, 100);
    terminal.send(keys);
    terminal.wait_exit(LONG);
    let shown = terminal.text();
    assert!(shown.contains("records the terminal ("), "{shown}");
    let id = lab.env.session_id();
    Recorded { lab, id }
}

/// Returns the events of a recording, read as the format says.
fn read(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let number = |name: &str| header.get(name).and_then(serde_json::Value::as_u64);
    let numbers = ["version", "width", "height"].map(number);
    assert_eq!(numbers, [Some(2), Some(80), Some(24)]);
    let variables = header.get("env").and_then(serde_json::Value::as_object);
    let mut variables = variables.unwrap().keys();
    assert!(variables.all(|name| ["TERM", "SHELL"].contains(&name.as_str())));
    let mut last = 0.0;
    let events = lines.map(|line| {
        let (at, code, data): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(at >= last, "{line}");
        last = at;
        (code, data)
    });
    events.collect()
}

fn has(raw: &[u8], part: &str) -> bool {
    raw.windows(part.len())
        .any(|window| window == part.as_bytes())
}

#[test]
fn what_the_terminal_showed_is_recorded_and_what_was_typed_is_not() {
    let token = token();
    let line = format!(
        "printf 'token: \\033[32m{}'; printf '%s\\033[m\\n' {}; printf '\\033]52;c;c3RvbGVu\\007'; \
         stty -echo; echo word please; read word; stty echo; echo got ${{#word}}; sleep 1",
        &token[..10],
        &token[10..]
    );
    let recorded = recorded(&line, "word please", "typed-in-secret\n");
    let events = read(&recorded.path());
    let codes: Vec<&str> = events.iter().map(|(code, _)| code.as_str()).collect();
    assert!(codes.contains(&"o") && codes.contains(&"r"), "{codes:?}");
    assert!(
        codes.iter().all(|code| ["o", "r"].contains(code)),
        "{codes:?}"
    );
    assert!(
        events.contains(&("r".to_owned(), "100x30".to_owned())),
        "{events:?}"
    );
    let shown: String = events.iter().map(|(_, data)| data.as_str()).collect();
    assert!(
        shown.contains("word please\r\n") && shown.contains("got 15\r\n"),
        "{shown:?}"
    );
    assert!(shown.contains("[github-token:"), "{shown:?}");
    for absent in [&token[4..], "typed-in-secret", "]52;", "stockade:"] {
        assert!(!shown.contains(absent), "{absent}: {shown:?}");
    }
    let mode = fs::metadata(recorded.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let record = recorded.lab.record();
    let event = record
        .iter()
        .find(|event| event.kind() == "terminal.recorded")
        .unwrap();
    let size = fs::metadata(recorded.path()).unwrap().len();
    let told = event.json.get("bytes").and_then(serde_json::Value::as_u64);
    assert_eq!(told, Some(size));
    let (code, told) = recorded.verify();
    assert_eq!(code, 0, "{told}");
    // It plays as it was, also faster, and leaves the terminal alone.
    let (raw, code) = recorded.play(&["--speed", "100"]);
    assert_eq!(code, 0);
    assert!(has(&raw, "word please") && has(&raw, "got 15"));
}

/// Whoever changes a recording is found out, and gets nothing to a terminal that the session could not.
#[test]
fn a_changed_recording_is_found_and_its_sequences_are_filtered() {
    let recorded = recorded("echo begin; read x; echo end", "begin", "\n");
    let path = recorded.path();
    let whole = fs::read_to_string(&path).unwrap();
    let hostile = "\\u001b]52;c;c3RvbGVu\\u0007\\u001b[6n\\u001b]4;1;#000000\\u0007evil";
    let more = format!("{whole}[9.5, \"o\", \"{hostile}\"]\n");
    for changed in [
        whole.replace("begin", "began"),
        whole[..whole.len() - 1].to_owned(),
        more,
    ] {
        fs::write(&path, &changed).unwrap();
        let (code, told) = recorded.verify();
        assert_eq!(code, 1, "{told}");
        assert!(
            told.contains("`terminal.cast`, is not what was recorded"),
            "{told}"
        );
        let (raw, code) = recorded.play(&["--idle", "1s"]);
        assert_eq!(code, 1);
        assert!(has(&raw, "not what was recorded"));
        for part in ["\u{1b}]52;", "\u{1b}[6n", "\u{1b}]4;"] {
            assert!(!has(&raw, part), "{part:?}");
        }
        assert_eq!(has(&raw, "evil"), changed.contains("evil"));
    }
    fs::write(&path, "no recording").unwrap();
    assert_eq!(recorded.play(&[]).1, 3);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let (code, told) = recorded.verify();
    assert!(
        code == 1 && told.contains("is not what was recorded"),
        "{told}"
    );
    fs::remove_file(&path).unwrap();
    let (code, told) = recorded.verify();
    assert!(
        code == 1 && told.contains("`terminal.cast`, is gone"),
        "{told}"
    );
    assert_eq!(recorded.play(&[]).1, 3);
    // Control: as it was, it is intact.
    fs::write(&path, &whole).unwrap();
    assert_eq!(recorded.verify().0, 0);
}

#[test]
fn keys_pause_and_end_the_play() {
    let recorded = recorded("echo begin; read x; sleep 2; echo end", "begin", "\n");
    let run = recorded.lab.stockade(&["replay", "--terminal", "last"]);
    let mut terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.wait_for("begin", LONG);
    terminal.send(" ");
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!terminal.text().contains("end"), "it is paused");
    // One key at a time is read.
    for key in [".", " "] {
        terminal.send(key);
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    terminal.wait_for("end", LONG);
    assert_eq!(terminal.wait_exit(LONG).code(), Some(0));
    let run = recorded
        .lab
        .stockade(&["replay", "--terminal", "last", "--speed", "0.01"]);
    let mut terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.wait_for("begin", LONG);
    terminal.send("q");
    assert_eq!(terminal.wait_exit(LONG).code(), Some(0));
    assert!(!terminal.text().contains("end"));
}

/// By default nothing is recorded, and without a terminal there is nothing to record.
#[test]
fn a_session_without_a_terminal_or_without_the_policy_has_no_recording() {
    let lab = Lab::new();
    let policy = lab.env.write("on.toml", ON);
    let policy = policy.to_str().unwrap();
    let output = session(&lab, &["--policy", policy], "echo shown").success();
    assert!(
        output.stderr.contains("the session had no terminal"),
        "{output:?}"
    );
    let record = lab.record();
    let event = record
        .iter()
        .find(|event| event.kind() == "terminal.recorded")
        .unwrap();
    assert_eq!(event.field("missing"), "the session had no terminal");
    lab.stockade(&["log", "verify", "last"]).success();
    let output = lab.stockade(&["replay", "--terminal", "last"]).output();
    output.assert_code(3);
    assert!(
        output.stderr.contains("the session had no terminal"),
        "{output:?}"
    );
    // Nobody puts one there later.
    let recorded = Recorded {
        id: lab.env.session_id(),
        lab,
    };
    fs::write(recorded.path(), "{}\n").unwrap();
    assert_eq!(recorded.verify().0, 1);
    let lab = recorded.lab;
    let run = session(&lab, &[], "echo shown; read x");
    let mut terminal = Terminal::start(run.into_command(), 24, 80);
    terminal.wait_for("shown", LONG);
    terminal.send("\n");
    terminal.wait_exit(LONG);
    assert!(!terminal.text().contains("records the terminal"));
    let record = lab.record();
    assert!(
        record
            .iter()
            .all(|event| event.kind() != "terminal.recorded")
    );
    let recorded = Recorded {
        id: lab.env.session_id(),
        lab,
    };
    assert!(!recorded.path().exists());
    let (_, code) = recorded.play(&[]);
    assert_eq!(code, 3);
    // A recording that the journal does not name is no part of the record.
    fs::write(recorded.path(), "{}\n").unwrap();
    let (code, told) = recorded.verify();
    assert!(code == 1 && told.contains("does not name it"), "{told}");
}

/// What the organisation says of the recording, nobody else changes.
#[test]
fn the_organisation_alone_decides_whether_it_is_recorded() {
    let lab = Lab::new();
    for (word, other) in [("on", "off"), ("off", "on")] {
        let text = |word| format!("schema = 1\n[record]\nterminal = \"{word}\"\n");
        let organisation = lab.env.write("org.toml", &text(word));
        let own = lab.env.write("own.toml", &text(other));
        let run = |own: &Path| {
            let arguments = ["policy", "show", "--policy", own.to_str().unwrap()];
            let run = lab.stockade(&arguments);
            run.env("STOCKADE_ORG_POLICY", &organisation).output()
        };
        let output = run(&own);
        assert_ne!(output.code(), 0, "{output:?}");
        let expected = format!("`{other}` differs from `{word}` of the organisation layer");
        assert!(output.stderr.contains(&expected), "{output:?}");
        let output = run(&organisation);
        assert!(
            output.stdout.contains(&format!("terminal = \"{word}\"")),
            "{output:?}"
        );
    }
}
