use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::{Finding, Own, Scan, Secrets, formats::FORMATS};

/// The text of a session that the tests look for.
const OWN: &str = "correct-horse-battery-staple-9081726354";

fn secrets() -> Secrets {
    let own = Own {
        kind: "credential `svc`".to_owned(),
        text: OWN.as_bytes().to_vec(),
    };
    Secrets::new(vec![own]).unwrap()
}

/// Random characters of an alphabet, the same in every run.
fn random(alphabet: &[u8], length: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = usize::try_from(state >> 33).unwrap() % alphabet.len();
        char::from(alphabet[at])
    };
    (0..length).map(|_| next()).collect()
}

/// A token of each format and each beginning.
fn tokens() -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for (number, format) in FORMATS.iter().enumerate() {
        let alphabet: Vec<u8> = (b'!'..=b'~')
            .filter(|byte| format.tail.has(*byte))
            .collect();
        let alphabet: Vec<u8> = alphabet.into_iter().filter(|byte| *byte != b'=').collect();
        for begin in format.begins {
            let tail = random(&alphabet, format.min, 7 + u64::try_from(number).unwrap());
            all.push((format.kind, format!("{begin}{tail}")));
        }
    }
    all
}

fn block() -> String {
    let body = random(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        64,
        3,
    );
    format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"
    )
}

/// Every way to write a text that is looked for.
fn forms(text: &str) -> Vec<(&'static str, String)> {
    let all = |before: &str| {
        let bytes = text.bytes();
        bytes.fold(String::new(), |all, byte| {
            format!("{all}{before}{byte:02x}")
        })
    };
    let half = text.len() / 2;
    let late: String = text
        .char_indices()
        .map(|(at, letter)| {
            if at > half {
                format!("%{:02X}", u32::from(letter))
            } else {
                letter.to_string()
            }
        })
        .collect();
    let mut forms = vec![
        ("plain", text.to_owned()),
        ("hex", all("")),
        ("hex", all("").to_uppercase()),
        ("percent-encoded", all("%")),
        ("json-escaped", all("\\u00")),
        ("mixed", late),
    ];
    for before in ["", "x", "yz", "some text before it: "] {
        let padded = format!("{before}{text}\n");
        forms.push(("base64", STANDARD.encode(&padded)));
        forms.push(("base64", URL_SAFE_NO_PAD.encode(&padded)));
    }
    forms
}

fn within(text: &str) -> String {
    format!("{{\"note\": \"a line before\", \"value\": \"{text}\", \"more\": [1, 2, 3]}} and so on")
}

/// Every format is found once, in every form, and named.
#[test]
fn every_format_is_found_in_every_form() {
    let secrets = secrets();
    let mut texts = tokens();
    texts.push(("private-key", block()));
    texts.push(("credential `svc`", OWN.to_owned()));
    texts.push((
        "secret-setting",
        "db_password = \"q7Rx2Lm9Tz4Vb8Kc1Wd5\"".to_owned(),
    ));
    for (kind, text) in &texts {
        for (form, written) in forms(text) {
            let found = secrets.find(within(&written).as_bytes());
            let is_it = |one: &Finding| {
                let form = one.form == form || (form == "mixed" && one.form.starts_with('p'));
                form && one.kind == *kind
            };
            assert!(
                found.iter().any(is_it),
                "{kind} {form}: {written}\n{found:?}"
            );
            let others = found.iter().filter(|one| one.kind != *kind).count();
            assert_eq!(others, 0, "{kind} {form}: {written}\n{found:?}");
        }
    }
}

/// However a stream is cut, the same is found at the same place, and what is found had not ended before
/// its last piece.
#[test]
fn pieces_of_any_size_are_read_as_one() {
    let secrets = secrets();
    let (_, token) = &tokens()[3];
    let texts = [
        within(token),
        within(&STANDARD.encode(format!("x{token}"))),
        within(&block()),
        within(OWN),
    ];
    for text in &texts {
        let bytes = text.as_bytes();
        let whole = secrets.find(bytes);
        assert!(!whole.is_empty(), "{text}");
        for size in 1..bytes.len().min(90) {
            let (mut scan, mut found) = (Scan::default(), Vec::new());
            let mut left = 0;
            for piece in bytes.chunks(size) {
                scan.feed(&secrets, piece, &mut found);
                if found.is_empty() {
                    left = left.max(
                        scan.offset + u64::try_from(scan.kept.len() - scan.open_bytes()).unwrap(),
                    );
                }
            }
            scan.finish(&secrets, &mut found);
            assert_eq!(found, whole, "{size}: {text}");
            // What had left before it was found is at most two bytes of the secret.
            assert!(left <= whole[0].at + 2, "{size}: {left} {whole:?}");
            assert!(scan.kept.len() <= 8, "{size}: {}", scan.kept.len());
        }
    }
}

/// The same secret has the same mark, in every form; another one has another.
#[test]
fn marks_tell_secrets_apart_and_nothing_of_them() {
    let secrets = secrets();
    let (one, other) = (&tokens()[0].1, &tokens()[1].1);
    let mark = |text: &str| secrets.find(within(text).as_bytes())[0].mark.clone();
    assert_eq!(mark(one), mark(&STANDARD.encode(one)));
    assert_ne!(mark(one), mark(other));
    assert_ne!(
        mark(one),
        super::Secrets::new(Vec::new())
            .unwrap()
            .find(within(one).as_bytes())[0]
            .mark
    );
}

/// A text of the session has one mark, whichever part of it was found, and wherever its base64 is cut by
/// ends of lines, by something else, or by the end of a piece.
#[test]
fn a_text_of_the_session_has_one_mark() {
    let secrets = secrets();
    let (first, second) = OWN.split_at(OWN.len() / 2);
    let mark = |found: &[Finding]| {
        let [one] = found else { panic!("{found:?}") };
        one.mark.clone()
    };
    let whole = mark(&secrets.find(OWN.as_bytes()));
    for text in [first, second] {
        assert_eq!(mark(&secrets.find(text.as_bytes())), whole);
        for shift in ["", "x", "yz"] {
            let coded = STANDARD.encode(format!("{shift}{text}"));
            for end in ["", "\n", "\r\n", "=", "%"] {
                for at in coded.len().saturating_sub(4)..=coded.len() {
                    let (head, tail) = coded.split_at(at);
                    let text = [head, end, tail].concat();
                    for found in [
                        secrets.find(text.as_bytes()),
                        in_pieces(&secrets, &text, at),
                    ] {
                        assert!(
                            found.iter().all(|one| one.mark == whole),
                            "{text:?} {found:?}"
                        );
                    }
                    assert_eq!(
                        secrets.find(text.as_bytes()),
                        in_pieces(&secrets, &text, at)
                    );
                }
            }
        }
    }
}

/// What is found in a text that comes in two pieces.
fn in_pieces(secrets: &Secrets, text: &str, at: usize) -> Vec<Finding> {
    let (mut scan, mut found) = (Scan::default(), Vec::new());
    let (first, second) = text.as_bytes().split_at(at);
    scan.feed(secrets, first, &mut found);
    scan.feed(secrets, second, &mut found);
    scan.finish(secrets, &mut found);
    found
}

/// Many texts take some megabytes, and are found like few.
#[test]
fn many_texts_take_little_memory() {
    const BYTES_MAX: usize = 24 << 20;
    let text = |n: u64| {
        random(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            64,
            n,
        )
    };
    for count in [0, 8, 64] {
        let own = (0..count).map(|n| Own {
            kind: format!("text {n}"),
            text: text(100 + n).into_bytes(),
        });
        let secrets = Secrets::new(own.collect()).unwrap();
        let bytes = secrets.beginnings.memory_usage();
        assert!(bytes < BYTES_MAX, "{count}: {bytes}");
        for n in 0..count {
            let found = secrets.find(within(&STANDARD.encode(text(100 + n))).as_bytes());
            assert!(
                found.iter().any(|one| one.kind == format!("text {n}")),
                "{n}"
            );
        }
    }
}

/// What only looks like a secret is none.
#[test]
fn nothing_is_found_in_what_is_none() {
    let secrets = secrets();
    for text in [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "task-sk-abc",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ2",
        "if (line == \"-----BEGIN RSA PRIVATE KEY-----\") {",
        "\"integrity\": \"sha512-z7Rx2Lm9Tz4Vb8Kc1Wd5q7Rx2Lm9Tz4Vb8Kc1Wd5q7Rx2Lm9Tz4Vb8Kc1Wd5==\"",
        "checksum = \"0c4b5a6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b\"",
        "token = \"123e4567-e89b-12d3-a456-426614174000\"",
        "const token = getAccessTokenFromStorage(window)",
        "password: this.form.controls.password.value",
        "secretName: my-application-production-database",
        "e.token=t.createTokenForUser42WithScopes9AndMore",
        "",
    ] {
        assert_eq!(secrets.find(text.as_bytes()), [], "{text}");
    }
}

/// However a text is cut, the same is found in it, and where it is; and what is held back is bounded.
#[test]
fn fuzz_secrets() {
    let secrets = secrets();
    let mut texts: Vec<String> = tokens()
        .into_iter()
        .step_by(4)
        .map(|(_, token)| token)
        .collect();
    texts.extend([
        block(),
        OWN.to_owned(),
        "password = \"Xk3vQ9mZ2rT7bNw4Yc8LpD1s\"".to_owned(),
    ]);
    let samples = texts.iter().flat_map(|text| forms(text));
    let target = stockade_fuzz::Target {
        name: "secrets",
        samples: samples.map(|(_, text)| text.into_bytes()).collect(),
        words: &[
            b"-----BEGIN ",
            b"PRIVATE KEY-----",
            b"\\n",
            b"\\u00",
            b"%2",
            b"secret",
            b"token",
            b"\": \"",
            b"ghp_",
            b"Z2hw",
            b"6768705f",
            b"====",
            b"\r\n",
            b"correct-horse-",
        ],
        tries: stockade_fuzz::TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        let whole = secrets.find(bytes);
        let end = u64::try_from(bytes.len()).unwrap();
        assert!(
            whole.iter().all(|one| one.at < end && one.bytes > 0),
            "{whole:?}"
        );
        for size in [1, 7, 64] {
            let (mut scan, mut found) = (Scan::default(), Vec::new());
            for piece in bytes.chunks(size) {
                scan.feed(&secrets, piece, &mut found);
                assert!(scan.open_bytes() <= super::forms::WRITTEN_BYTES_MAX + size);
            }
            scan.finish(&secrets, &mut found);
            assert_eq!(found, whole, "in pieces of {size}");
        }
    });
}
