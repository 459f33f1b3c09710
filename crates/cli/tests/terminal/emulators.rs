//! Real terminal emulators: their answers, and the way in which their keys arrive.

use std::{thread, time::Duration};

use stockade_testkit::{approvals, display::Emulator};

use crate::terminal::lab::{Lab, PUSHED};

/// Text from a person who does not look at the screen, with lines that are answers elsewhere.
const PROSE: &str = "use the other tools so\nls\nso\no\ns\n";
/// Longer than the terminal and the silence take, but shorter than a person needs to read.
const READS: Duration = Duration::from_secs(3);
/// Longer than Enter must wait after the letter.
const CONFIRMS: Duration = Duration::from_millis(1_500);

/// Opens a question in an emulator while a person types, and returns its id.
fn typed_through<'a>(lab: &'a Lab, name: &str) -> (Emulator<'a>, String) {
    let line = format!(
        "cd '{}' && exec \"$STOCKADE\" run -- /bin/sh -c '(until [ -e read ]; do sleep 0.1; done; \
         sleep 1; git push -q -h) > result 2>&1 < /dev/null & stty -icanon -echo; exec cat > read'",
        lab.repo.path().display()
    );
    let emulator = Emulator::start(&lab.env, name, &line);
    let started = stockade_testkit::wait::until_true(crate::terminal::lab::LONG, || {
        lab.repo.path().join("read").exists()
    });
    assert!(started, "{name}: the session did not start");
    let mut asked = Vec::new();
    for _ in 0..20 {
        emulator.type_text(PROSE, Duration::from_millis(70));
        asked = approvals::pending(&lab.env);
        if !asked.is_empty() {
            break;
        }
    }
    // And again, while the box is open.
    emulator.type_text(PROSE, Duration::from_millis(120));
    let open = approvals::pending(&lab.env);
    assert_eq!(open.len(), 1, "{name}: somebody typed, and it was answered");
    assert_eq!(asked.len(), 1);
    assert!(lab.file("read").starts_with("use"), "{name}");
    let id = open.into_iter().next().map(|asked| asked.id);
    (emulator, id.expect("one is open"))
}

fn reads_and_answers(name: &str) {
    let lab = Lab::new();
    let (emulator, _) = typed_through(&lab, name);
    thread::sleep(READS);
    emulator.press("o");
    thread::sleep(CONFIRMS);
    assert!(
        !lab.file("result").contains(PUSHED),
        "{name}: a letter alone"
    );
    emulator.press("Return");
    lab.wait_file("result", PUSHED);
    assert_eq!(lab.answers(), ["allow by terminal"], "{name}");
}

#[test]
fn xterm_is_typed_through_and_answered() {
    reads_and_answers("xterm");
}

#[test]
fn urxvt_is_typed_through_and_answered() {
    reads_and_answers("urxvt");
}

/// It answers no status report: to allow, a person repeats the digits that the box shows.
#[test]
fn st_is_typed_through_and_answered_by_digits() {
    let lab = Lab::new();
    let (emulator, id) = typed_through(&lab, "stterm");
    thread::sleep(READS * 2);
    emulator.press("o");
    thread::sleep(CONFIRMS);
    emulator.press("Return");
    thread::sleep(CONFIRMS);
    assert_eq!(approvals::pending(&lab.env).len(), 1, "Enter alone");
    thread::sleep(READS);
    emulator.press("o");
    thread::sleep(CONFIRMS);
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let code = id.bytes().fold(0x811c_9dc5, step) % 10_000;
    emulator.type_text(&format!("{code:04}"), Duration::from_millis(150));
    thread::sleep(CONFIRMS);
    emulator.press("Return");
    lab.wait_file("result", PUSHED);
    assert_eq!(lab.answers(), ["allow by terminal"]);
}
