//! What is in a recording, what is not, and how large it becomes.

use std::{
    fs,
    io::{Seek as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use stockade_event::Event;
use stockade_journal::layout::RECORDING_FILE;
use stockade_types::Digest;

use super::{RecordedTerminal, TerminalRecording, redact::Redactor};

fn token() -> String {
    ["ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq"].concat()
}

fn terminal() -> RecordedTerminal {
    RecordedTerminal {
        size: (24, 80),
        term: "xterm-256color".to_owned(),
        shell: "/bin/bash".to_owned(),
    }
}

/// Returns what is recorded of pieces that come a millisecond apart, and how often it was changed.
fn recorded(pieces: &[&[u8]]) -> (Vec<(Duration, Vec<u8>)>, u64) {
    let mut redactor = Redactor::default();
    let mut ready = Vec::new();
    for (at, piece) in (0..).zip(pieces) {
        redactor.push(Duration::from_millis(at), piece, &mut ready);
    }
    redactor.flush(&mut ready);
    (ready, redactor.hidden())
}

fn text(pieces: &[&[u8]]) -> String {
    let (ready, _) = recorded(pieces);
    let bytes: Vec<u8> = ready.into_iter().flat_map(|(_, bytes)| bytes).collect();
    String::from_utf8(bytes).unwrap()
}

/// What is no secret is recorded byte by byte, in the order in which it came and at its time.
#[test]
fn what_is_no_secret_is_recorded_as_it_was_shown() {
    let shown = "\x1b[?1049h\x1b[2J\x1b[5;7H\x1b[1;32mgrün\x1b[0m \u{7}a\tb\r\n\x1b]8;;https://good.test/\
                 \x1b\\link\x1b]8;;\x1b\\\x1b(0lqk\x1b(B\x1b7\x1b8\x08x\x1b[K$ ";
    assert_eq!(text(&[shown.as_bytes()]), shown);
    for at in 0..shown.len() {
        // The filter cuts between characters and between sequences; the redactor does not rely on it.
        let (before, after) = shown.as_bytes().split_at(at);
        let (ready, hidden) = recorded(&[before, after]);
        let bytes: Vec<u8> = ready.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert_eq!(bytes, shown.as_bytes(), "cut at {at}");
        assert_eq!(hidden, 0);
        assert!(ready.is_sorted_by_key(|(at, _)| *at), "{ready:?}");
    }
    let (ready, _) = recorded(&[b"a", b"b\r\n", b"c"]);
    let millis: Vec<u128> = ready.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(millis, [0, 1, 2]);
}

/// However it is cut and coloured, no part of a secret on one line is recorded.
#[test]
fn a_secret_on_a_line_is_replaced_however_it_is_cut_and_coloured() {
    let token = token();
    let plain = format!("export GITHUB_TOKEN={token}\r\n");
    let coloured = format!(
        "\x1b[1mkey\x1b[32m{}\x1b[0m{}\r\n$ ",
        &token[..9],
        &token[9..]
    );
    let abutting = format!("key\x1b[32m{token}\x1b[0m\r\n");
    let link = format!("\x1b]8;;https://good.test/?t={token}\x1b\\here\x1b]8;;\x1b\\ \r\n");
    for shown in [&plain, &coloured, &abutting, &link] {
        let bytes = shown.as_bytes();
        assert!(text(&[bytes]).contains("[github-token:"), "{shown:?}");
        for at in 0..bytes.len() {
            if bytes[at] == b'\\' || bytes[..at].ends_with(b"\x1b") || is_in_sequence(bytes, at) {
                continue;
            }
            let (before, after) = bytes.split_at(at);
            let all = text(&[before, after]);
            assert!(!all.contains(&token[4..]), "{shown:?} cut at {at}: {all:?}");
            assert!(!all.contains(&token[9..]), "{shown:?} cut at {at}: {all:?}");
            assert!(
                all.contains("[github-token:"),
                "{shown:?} cut at {at}: {all:?}"
            );
        }
        // Key by key, as a shell echoes it.
        let keys: Vec<&[u8]> = plain.as_bytes().chunks(1).collect();
        assert!(!text(&keys).contains(&token[4..]));
    }
    // What surrounds it stays, and so do the colours.
    let all = text(&[coloured.as_bytes()]);
    assert!(
        all.starts_with("\x1b[1mkey") && all.ends_with("\x1b[0m\r\n$ "),
        "{all:?}"
    );
}

/// Whether a cut at `at` would be one that the filter of the terminal never makes.
fn is_in_sequence(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    let Some(begin) = before.iter().rposition(|byte| *byte == 0x1b) else {
        return false;
    };
    let own = &bytes[begin..at];
    match own {
        [0x1b, b']', ..] => true,
        [0x1b, b'[', rest @ ..] => !rest.iter().any(|byte| (0x40..=0x7e).contains(byte)),
        _ => false,
    }
}

/// A secret of a long line is found wherever the line is cut because it is too long.
#[test]
fn a_line_without_end_is_recorded_in_bounded_pieces_and_hides_its_secrets() {
    let token = token();
    for before in (27_000..33_500).step_by(41) {
        let line = format!(
            "{} {token} {}",
            "x ".repeat(before / 2),
            "y ".repeat(30_000)
        );
        let mut redactor = Redactor::default();
        let mut ready = Vec::new();
        for piece in line.as_bytes().chunks(1_000) {
            redactor.push(Duration::ZERO, piece, &mut ready);
        }
        let early: usize = ready.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(early + (40 << 10) > line.len(), "{early} of {}", line.len());
        redactor.flush(&mut ready);
        let bytes: Vec<u8> = ready.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let all = String::from_utf8(bytes).unwrap();
        assert!(!all.contains(&token[4..]), "after {before}");
        assert_eq!(all.matches("[github-token:").count(), 1, "after {before}");
        let rest = all.len().abs_diff(line.len());
        assert!(rest < token.len(), "{rest} bytes differ");
    }
}

#[test]
fn a_private_key_is_left_out_from_its_first_line_to_its_last() {
    let body: String = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\r\n".repeat(20);
    let key = |label: &str| {
        let (begin, end) = (
            format!("-----BEGIN {label}PRIVATE KEY-----"),
            format!("-----END {label}PRIVATE KEY-----"),
        );
        format!("$ cat key\r\n{begin}\r\n{body}kQ==\r\n{end}\r\n$ ls\r\n")
    };
    for label in ["", "RSA ", "OPENSSH "] {
        let all = text(&[key(label).as_bytes()]);
        assert!(!all.contains("MIIE") && !all.contains("kQ=="), "{all:?}");
        assert!(
            all.contains("[private-key]") && all.contains("$ ls"),
            "{all:?}"
        );
    }
    // A mention is none: what follows stays.
    let mention =
        "a file with -----BEGIN PRIVATE KEY----- in it\r\nis a key of three words or more\r\n";
    let all = text(&[mention.as_bytes()]);
    assert!(all.contains("is a key of three words"), "{all:?}");
    // A key that never ends takes a bounded part of the recording.
    let endless = format!("-----BEGIN PRIVATE KEY-----\r\n{}", body.repeat(40));
    let all = text(&[endless.as_bytes()]);
    assert!(all.len() > endless.len() - (20 << 10), "{}", all.len());
}

/// The file is asciicast 2, as its description says and not as our writer does it.
#[test]
fn the_file_is_strictly_asciicast_2() {
    let dir = tempfile::tempdir().unwrap();
    let recording = TerminalRecording::begin(dir.path(), &terminal()).unwrap();
    recording.output("grün \"x\" \\ \x1b[31m".as_bytes());
    recording.output(b"a\xffb\r\n");
    recording.resized(50, 132);
    recording.output(b"end");
    let event = recording.finish();
    recording.output(b"after the digest");
    let path = dir.path().join(RECORDING_FILE);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let bytes = fs::read(&path).unwrap();
    let Event::TerminalRecorded {
        bytes: size,
        digest,
        hidden,
        missing,
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(
        (size, digest),
        (bytes.len() as u64, Some(Digest::of(&bytes)))
    );
    assert_eq!((hidden, missing), (0, None));
    let file = String::from_utf8(bytes).unwrap();
    assert!(file.ends_with('\n') && !file.contains("after the digest"));
    let mut lines = file.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(
        (&header["version"], &header["width"]),
        (&2.into(), &80.into())
    );
    assert_eq!(header["height"], 24);
    assert!(header["timestamp"].as_u64().unwrap() > 1_700_000_000);
    let env = serde_json::json!({"TERM": "xterm-256color", "SHELL": "/bin/bash"});
    assert_eq!(header["env"], env);
    assert_eq!(header.as_object().unwrap().len(), 5);
    let mut last = 0.0;
    let mut told = Vec::new();
    for line in lines {
        let (at, code, data): (f64, String, String) = serde_json::from_str(line).unwrap();
        assert!(at >= last, "{line}");
        last = at;
        told.push((code, data));
    }
    let shown: String = told
        .iter()
        .filter(|(code, _)| code == "o")
        .map(|(_, data)| data.as_str())
        .collect();
    assert_eq!(shown, "grün \"x\" \\ \x1b[31ma\u{fffd}b\r\nend");
    assert!(told.contains(&("r".to_owned(), "132x50".to_owned())));
}

#[test]
fn a_recording_stops_at_its_bound_and_says_so_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let bytes_max = 16 << 10;
    let recording = TerminalRecording::begin_within(dir.path(), &terminal(), bytes_max).unwrap();
    for _ in 0..2_000 {
        // Six bytes each as JSON.
        recording.output(b"\x1b[1m\x1b[0m some output\r\n");
    }
    let Event::TerminalRecorded {
        bytes,
        digest,
        missing,
        ..
    } = recording.finish()
    else {
        panic!();
    };
    let file = fs::read(dir.path().join(RECORDING_FILE)).unwrap();
    assert_eq!(
        (bytes, digest),
        (file.len() as u64, Some(Digest::of(&file)))
    );
    assert!(bytes <= bytes_max && bytes > bytes_max - 1_000, "{bytes}");
    assert_eq!(missing.unwrap(), "it reached 16384 bytes");
    let last = String::from_utf8(file)
        .unwrap()
        .lines()
        .last()
        .unwrap()
        .to_owned();
    let (_, code, label): (f64, String, String) = serde_json::from_str(&last).unwrap();
    assert_eq!(code, "m");
    assert_eq!(
        label,
        "stockade: the recording stops here: it reached 16384 bytes"
    );
}

/// What cannot be written is not half there: the digest is of the file.
#[test]
fn a_disk_that_is_full_ends_the_recording_with_a_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let recording = TerminalRecording::begin(dir.path(), &terminal()).unwrap();
    recording.output(b"before\r\n");
    // Every write to it fails as on a full disk.
    let mut tape = stockade_supervise::lock(&recording.0);
    let mut full = fs::File::options().write(true).open("/dev/full").unwrap();
    full.write_all(b"x").unwrap_err();
    full.rewind().unwrap();
    let own = std::mem::replace(&mut tape.file, full);
    drop(tape);
    recording.output(b"lost\r\n");
    let mut tape = stockade_supervise::lock(&recording.0);
    tape.file = own;
    drop(tape);
    recording.output(b"also lost\r\n");
    let Event::TerminalRecorded {
        bytes,
        digest,
        missing,
        ..
    } = recording.finish()
    else {
        panic!();
    };
    let file = fs::read(dir.path().join(RECORDING_FILE)).unwrap();
    assert_eq!(
        (bytes, digest),
        (file.len() as u64, Some(Digest::of(&file)))
    );
    assert!(missing.unwrap().starts_with("it could not be written: "));
    let file = String::from_utf8(file).unwrap();
    assert!(file.contains("before") && !file.contains("lost"), "{file}");
    // And no session gets the recording of another.
    TerminalRecording::begin(dir.path(), &terminal()).unwrap_err();
}
