//! Enrolment: what leaves, to whom, and what stays.

use std::{fs, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use stockade_node::EnrolError;
use stockade_types::chain;

use crate::lab::{Authority, Lab, Mood, tree};

#[test]
fn a_machine_is_enrolled_once_and_keeps_its_key_to_itself() {
    let lab = Lab::new();
    let enrolment = lab.enrol().unwrap();
    assert_eq!(enrolment.org, "lab");
    let node = lab.state().join("node");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&node), 0o700);
    for name in ["key", "certificate.json", "enrolment.json"] {
        assert_eq!(mode(&node.join(name)), 0o600, "{name}");
    }
    // The private key was drawn here, and has not left.
    let key = fs::read(node.join("key")).unwrap();
    let sent = lab.locked().enrolments.concat();
    let base64 = STANDARD.encode(&key);
    let plain: Vec<String> = key.iter().map(u8::to_string).collect();
    let hex: Vec<String> = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(key.len(), 32);
    for form in [&base64[..40], &plain.join(","), &hex.concat()] {
        assert!(!sent.contains(form), "{form}");
    }
    let again = lab.enrol().unwrap_err();
    assert!(matches!(again, EnrolError::Enrolled { .. }), "{again}");
    assert_eq!(
        lab.locked().enrolments.len(),
        1,
        "the token was not used for nothing"
    );
}

#[test]
fn the_secret_goes_to_nobody_but_the_server_of_the_token() {
    let lab = Lab::new();
    // The same host and port, and a certificate for it, by another authority.
    let mut token = lab.token.clone();
    token.ca = Authority::new().digest;
    let before = tree(&lab.state());
    let error = chain(&lab.enrol_with(&token).unwrap_err());
    assert!(
        error.contains("authority is not the one that the token names"),
        "{error}"
    );
    assert!(lab.locked().enrolments.is_empty(), "nothing was sent");
    let left = tree(&lab.state());
    let left: Vec<_> = left
        .keys()
        .filter(|path| !path.ends_with("node/lock"))
        .collect();
    assert_eq!(left.len(), before.len(), "{left:?}");
    // The right authority, and a host that its certificate is not for.
    let mut token = lab.token.clone();
    token.url = token.url.replace("localhost", "127.0.0.1");
    lab.enrol_with(&token).unwrap_err();
    assert!(lab.locked().enrolments.is_empty());
    // The control.
    lab.enrol().unwrap();
    assert_eq!(lab.locked().enrolments.len(), 1);
}

#[test]
fn an_answer_with_another_authority_enrols_nothing() {
    let lab = Lab::new();
    lab.mood(Mood::OtherAnswer);
    let error = lab.enrol().unwrap_err();
    assert!(matches!(error, EnrolError::Answer(_)), "{error}");
    assert!(!lab.state().join("node/enrolment.json").exists());
    assert!(!lab.state().join("node/key").exists());
    // Nor one with people whom nobody has signed who may.
    lab.mood(Mood::OtherPeople);
    let error = lab.enrol().unwrap_err();
    assert!(matches!(error, EnrolError::Trust(_)), "{error}");
    assert!(!lab.state().join("node/enrolment.json").exists());
    assert!(!lab.state().join("trust/node.json").exists());
    lab.mood(Mood::Honest);
    lab.enrol().unwrap();
    for name in ["node.json", "root.json", "directory.json"] {
        assert!(lab.state().join("trust").join(name).exists(), "{name}");
    }
}
