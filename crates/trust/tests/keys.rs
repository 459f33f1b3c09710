//! Votes that approver keys have signed. Each case begins with one that the machine takes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_trust::{Choice, Nonce, Proof, SecretKey, Strength, Vote};
use stockade_types::{Digest, SessionId, UnixMillis};

use crate::lab::{Lab, id};

/// The order of the group of Ed25519, in little-endian bytes (RFC 8032, section 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Changes a laboratory whose grant would be taken, and says what the machine answers to the same votes.
fn refused(change: impl FnOnce(&mut Lab, &mut Vec<Vote>)) -> String {
    let mut lab = Lab::new();
    let mut votes = lab.votes();
    assert!(lab.judge_grant(&lab.grant(votes.clone())).is_ok());
    change(&mut lab, &mut votes);
    let judged = lab.judge_grant(&lab.grant(votes));
    judged.expect_err("it is forged").to_string()
}

/// Returns the signature of a vote as bytes.
fn signature(vote: &Vote) -> Vec<u8> {
    let signature = match &vote.proof {
        Proof::Key { signature, .. } => Some(signature),
        Proof::Session {} | Proof::Passkey(_) => None,
    };
    let signature = signature.expect("a key has signed it");
    URL_SAFE_NO_PAD.decode(signature).expect("base64url")
}

fn with_signature(vote: &mut Vote, bytes: &[u8]) {
    if let Proof::Key { signature, .. } = &mut vote.proof {
        *signature = URL_SAFE_NO_PAD.encode(bytes);
    }
}

/// A stage that wants an authenticator takes no file.
#[test]
fn a_stage_for_passkeys_takes_no_key() {
    let set = |lab: &mut Lab, strength| {
        lab.review.paths[0][1].strength = strength;
    };
    for taken in [Strength::Session, Strength::Key] {
        let mut lab = Lab::new();
        set(&mut lab, taken);
        assert!(
            lab.judge_grant(&lab.grant(lab.votes())).is_ok(),
            "{taken:?}"
        );
    }
    let said = refused(|lab, _| set(lab, Strength::Passkey));
    assert!(said.contains("the stage needs a passkey"), "{said}");
    // With a passkey of hers the same stage is complete.
    let mut lab = Lab::new();
    set(&mut lab, Strength::Passkey);
    lab.directory.people[2].passkeys = vec![lab.ann.passkey()];
    lab.directory.people[0].passkeys.clear();
    let mut votes = lab.votes();
    votes[2] = lab.with(&lab.ann, Lab::vote("cara", "security"));
    assert!(lab.judge_grant(&lab.grant(votes)).is_ok());
    // Nor does the override, which wants one unless its table says otherwise.
    let broken = |strength| {
        let mut lab = Lab::new();
        lab.directory.people[2].roles = lab.directory.people[3].roles.clone();
        if let Some(glass) = &mut lab.review.break_glass {
            glass.strength = strength;
        }
        let mut grant = lab.grant(vec![lab.signed(&lab.cara_key, Lab::vote("cara", ""))]);
        grant.broken_glass = true;
        lab.judge_grant(&grant)
    };
    assert!(broken(Strength::Key).is_ok());
    let said = broken(Strength::Passkey).expect_err("a key").to_string();
    assert!(said.contains("the stage needs a passkey"), "{said}");
}

/// A stage that takes keys is not complete with those who were only signed in.
#[test]
fn a_stage_for_keys_takes_no_sign_in() {
    let said = refused(|_, votes| votes[2] = Lab::vote("cara", "security"));
    assert!(said.contains("an approver key or a passkey"), "{said}");
}

#[test]
fn a_key_that_was_removed_counts_no_more() {
    let said = refused(|lab, _| lab.directory.people[2].keys.clear());
    assert!(said.contains("does not have"), "{said}");
    let said = refused(|lab, _| {
        lab.directory.people[2].keys = vec![SecretKey::from_seed(&[7; 32]).public()];
    });
    assert!(said.contains("does not have"), "{said}");
}

/// A key names one person: nobody votes with that of another, and one of two people nobody can tell apart.
#[test]
fn a_key_is_of_one_person() {
    let said = refused(|lab, votes| {
        votes[2] = lab.signed(&lab.cara_key, Lab::vote("ben", "security"));
        votes[1] = lab.signed(&lab.cara_key, Lab::vote("cara", "security"));
    });
    assert!(
        said.contains("the vote of ben") && said.contains("does not have"),
        "{said}"
    );
    let said = refused(|lab, _| {
        let key = lab.cara_key.public();
        lab.directory.people[1].keys = vec![key];
    });
    assert!(said.contains("of several people"), "{said}");
    // A vote of hers is none of his.
    let said = refused(|_, votes| {
        votes[2].user = id("dora");
    });
    assert!(said.contains("dora"), "{said}");
}

/// A person with a key and a passkey is one person.
#[test]
fn key_and_passkey_of_one_person_count_once() {
    let said = refused(|lab, votes| {
        lab.directory.people[1].keys = vec![SecretKey::from_seed(&[8; 32]).public()];
        let key = SecretKey::from_seed(&[8; 32]);
        votes[2] = lab.signed(&key, Lab::vote("ben", "security"));
    });
    assert!(
        said.contains("the vote of ben") && said.contains("voted before"),
        "{said}"
    );
}

#[test]
fn the_key_of_who_asks_answers_nothing() {
    let otto = SecretKey::from_seed(&[6; 32]);
    let with_otto = |requesters: &[&str]| {
        let mut lab = Lab::new();
        lab.directory.people[4].keys = vec![otto.public()];
        lab.requesters = requesters.iter().map(|name| id(name)).collect();
        let mut votes = lab.votes();
        votes[2] = lab.signed(&otto, Lab::vote("otto", "security"));
        lab.judge_grant(&lab.grant(votes))
    };
    assert!(
        with_otto(&["dora"]).is_ok(),
        "the control: it is not his session"
    );
    let said = with_otto(&["otto"]).expect_err("his own").to_string();
    assert!(said.contains("the person asks"), "{said}");
}

/// What a key has signed is one ballot: it is taken for no other.
#[test]
fn a_signature_is_for_one_ballot() {
    type Change = fn(&mut Lab, &mut Vec<Vote>);
    let cases: [(&str, Change); 10] = [
        ("session", |lab, _| lab.session = SessionId::from_random(6)),
        ("question", |lab, _| {
            lab.approval = "00000006".parse().expect("an id");
        }),
        ("asking", |lab, _| lab.nonce = Nonce::new([8; 16])),
        ("request", |lab, _| {
            lab.request = Digest::of(b"git push --force");
        }),
        ("policy", |lab, _| lab.revision = Digest::of(b"older")),
        ("text", |lab, _| lab.rendered = Digest::of(b"harmless")),
        ("reason", |_, votes| votes[2].reason = None),
        ("choice", |_, votes| votes[2].choice = Choice::Deny),
        ("time", |_, votes| votes[2].not_after = UnixMillis(u64::MAX)),
        ("stage", |lab, votes| {
            lab.directory.people[2].roles = lab.directory.people[0].roles.clone();
            votes[2].stage = "owner".to_owned();
            votes.swap(0, 2);
        }),
    ];
    for (what, change) in cases {
        // Of the others only the key's signature is looked at here.
        let said = refused(|lab, votes| {
            change(lab, votes);
            for at in [0, 1, 2] {
                if votes[at].user == id("ben") {
                    votes[at] = lab.with(&lab.ben, Lab::vote("ben", "security"));
                }
            }
        });
        assert!(
            said.contains("the vote of cara: its key has not signed this ballot"),
            "{what}: {said}"
        );
    }
}

/// Ed25519 takes other forms of the same signature unless it is verified strictly.
#[test]
fn no_other_form_of_a_signature_is_taken() {
    let said = refused(|_, votes| {
        // s + L fits the same equation.
        let mut bytes = signature(&votes[2]);
        let mut carry = 0_u16;
        for (byte, add) in bytes.iter_mut().skip(32).zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = u8::try_from(sum & 0xff).expect("a byte");
            carry = sum >> 8;
        }
        with_signature(&mut votes[2], &bytes);
    });
    assert!(said.contains("has not signed"), "{said}");
    for length in [0, 32, 63, 65] {
        let said = refused(|_, votes| {
            let mut bytes = signature(&votes[2]);
            bytes.resize(length, 0);
            with_signature(&mut votes[2], &bytes);
        });
        assert!(said.contains("has not signed"), "{length}: {said}");
    }
    for at in 0..64 {
        let said = refused(|_, votes| {
            let mut bytes = signature(&votes[2]);
            bytes[at] ^= 1;
            with_signature(&mut votes[2], &bytes);
        });
        assert!(said.contains("has not signed"), "{at}: {said}");
    }
    // A key with which anything is signed is none: the point of order one, and one of order eight.
    for weak in [
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
    ] {
        let text = format!("\"ed25519:{weak}\"");
        assert!(serde_json::from_str::<stockade_trust::PublicKey>(&text).is_err());
    }
}

/// What a later version adds is no key and no session to a machine that does not know it.
#[test]
fn a_proof_and_a_strength_that_are_not_known_are_refused() {
    let lab = Lab::new();
    let grant = serde_json::to_value(lab.grant(lab.votes())).expect("JSON");
    let read = |grant: &serde_json::Value| {
        serde_json::from_value::<stockade_trust::Grant>(grant.clone()).is_ok()
    };
    assert!(read(&grant), "the control");
    for by in ["security-key", "Key", ""] {
        let mut other = grant.clone();
        other["votes"][2]["proof"]["by"] = by.into();
        assert!(!read(&other), "{by}");
    }
    let mut more = grant;
    more["votes"][2]["proof"]["also"] = true.into();
    assert!(!read(&more));
    let review = serde_json::to_value(&lab.review).expect("JSON");
    let read = |strength: &str| {
        let mut review = review.clone();
        review["paths"][0][1]["strength"] = strength.into();
        serde_json::from_value::<stockade_trust::Review>(review).is_ok()
    };
    for known in ["session", "key", "passkey"] {
        assert!(read(known), "{known}");
    }
    for unknown in ["hardware", "", "Passkey"] {
        assert!(!read(unknown), "{unknown}");
    }
}
