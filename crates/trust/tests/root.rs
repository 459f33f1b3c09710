//! Which keys may sign what, and how one set follows another.

use stockade_trust::{
    Bundle, Directory, Envelope, EnvelopeError, Keys, Root, RootError, SecretKey, StatementError,
};
use stockade_types::UnixMillis;

use crate::lab::NOW;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn keys(seeds: &[u8], threshold: usize) -> Keys {
    Keys {
        keys: seeds.iter().map(|seed| key(*seed).public()).collect(),
        threshold,
    }
}

fn root(version: u64) -> Root {
    Root {
        org: "shop".to_owned(),
        version,
        not_after: UnixMillis(NOW + 1),
        root: keys(&[1, 2, 3], 2),
        people: keys(&[4], 1),
        policy: keys(&[5], 1),
        servers: keys(&[6], 1),
    }
}

fn seal(root: &Root, seeds: &[u8]) -> Envelope {
    let keys: Vec<SecretKey> = seeds.iter().map(|seed| key(*seed)).collect();
    let keys: Vec<&SecretKey> = keys.iter().collect();
    Envelope::seal(root, &keys).expect("a root is JSON")
}

fn open(envelope: &Envelope) -> Result<Root, RootError> {
    Root::open(envelope, UnixMillis(NOW))
}

#[test]
fn a_root_is_signed_by_enough_of_its_own_keys() {
    for seeds in [&[1, 2][..], &[2, 3], &[1, 2, 3], &[9, 3, 1]] {
        assert_eq!(open(&seal(&root(1), seeds)), Ok(root(1)));
    }
    for (seeds, valid) in [(&[1][..], 1), (&[1, 1], 1), (&[4, 5, 6], 0), (&[], 0)] {
        let error = EnvelopeError::Signatures {
            valid,
            threshold: 2,
        };
        assert_eq!(open(&seal(&root(1), seeds)), Err(error.into()), "{seeds:?}");
    }
    assert_eq!(
        Root::open(&seal(&root(1), &[1, 2]), UnixMillis(NOW + 1)),
        Err(RootError::Expired)
    );
}

/// What keys are for, and where a root has them.
type Purpose = (&'static str, fn(&mut Root) -> &mut Keys);

#[test]
fn keys_that_let_too_few_sign_are_no_root() {
    let many: Vec<u8> = (10..27).collect();
    let purposes: [Purpose; 4] = [
        ("root", |root| &mut root.root),
        ("people", |root| &mut root.people),
        ("policy", |root| &mut root.policy),
        ("servers", |root| &mut root.servers),
    ];
    for (name, purpose) in purposes {
        for wrong in [
            keys(&[1, 2], 0),
            keys(&[1, 2], 3),
            keys(&[], 0),
            keys(&[1, 1], 2),
            keys(&many, 2),
        ] {
            let mut root = root(1);
            *purpose(&mut root) = wrong;
            let error = Err(RootError::Keys(name));
            assert_eq!(open(&seal(&root, &[1, 2])), error);
        }
    }
}

#[test]
fn a_root_follows_only_under_the_keys_of_the_one_before() {
    let now = UnixMillis(NOW);
    let known = root(3);
    let mut rotated = root(4);
    rotated.root = keys(&[7, 8], 2);
    // Signed by enough of the old ones and of its own.
    assert_eq!(
        known.next(&seal(&rotated, &[1, 2, 7, 8]), now),
        Ok(rotated.clone())
    );
    // Whoever holds only its own keys, or one of the old ones, changes nothing.
    for (seeds, valid) in [(&[7, 8][..], 0), (&[1, 7, 8], 1)] {
        let threshold = 2;
        assert_eq!(
            known.next(&seal(&rotated, seeds), now),
            Err(RootError::Before(EnvelopeError::Signatures {
                valid,
                threshold
            }))
        );
    }
    assert!(matches!(
        known.next(&seal(&rotated, &[1, 2]), now),
        Err(RootError::Envelope(EnvelopeError::Signatures { .. }))
    ));
    // Back, or the same again.
    for version in [0, 1, 2, 3] {
        let error = RootError::Version {
            found: version,
            known: 3,
        };
        assert_eq!(known.next(&seal(&root(version), &[1, 2]), now), Err(error));
    }
    let other = Root {
        org: "other".to_owned(),
        ..root(4)
    };
    assert!(matches!(
        known.next(&seal(&other, &[1, 2]), now),
        Err(RootError::Organisation { .. })
    ));
}

#[test]
fn each_key_signs_only_what_it_is_for() {
    let now = UnixMillis(NOW);
    let root = root(1);
    let directory = Directory {
        org: "shop".to_owned(),
        serial: 7,
        not_after: UnixMillis(NOW + 1),
        people: Vec::new(),
    };
    let bundle = Bundle {
        org: "shop".to_owned(),
        channel: "ci".to_owned(),
        serial: 42,
        created: UnixMillis(NOW),
        name: "org.toml".to_owned(),
        text: "schema = 1\n".to_owned(),
        candidate: None,
    };
    for seed in 1..=6 {
        let people = Envelope::seal(&directory, &[&key(seed)]).expect("JSON");
        assert_eq!(root.directory(&people, 7, now).is_ok(), seed == 4);
        let policy = Envelope::seal(&bundle, &[&key(seed)]).expect("JSON");
        assert_eq!(root.bundle(&policy, 42).is_ok(), seed == 5);
        // Neither is the other.
        assert!(root.bundle(&people, 0).is_err() && root.directory(&policy, 0, now).is_err());
    }
    let people = Envelope::seal(&directory, &[&key(4)]).expect("JSON");
    let policy = Envelope::seal(&bundle, &[&key(5)]).expect("JSON");
    let older = |found, known| StatementError::Serial { found, known };
    assert_eq!(root.directory(&people, 8, now), Err(older(7, 8)));
    assert_eq!(root.bundle(&policy, 43), Err(older(42, 43)));
    assert_eq!(
        root.directory(&people, 0, UnixMillis(NOW + 1)),
        Err(StatementError::Expired)
    );
    let other = Root {
        org: "other".to_owned(),
        ..root
    };
    assert!(matches!(
        other.bundle(&policy, 0),
        Err(StatementError::Organisation { .. })
    ));
}

/// Statements come from the network: what is no JSON, or too much of it, is an error.
#[test]
fn what_is_changed_in_an_envelope_is_not_read() {
    let text = serde_json::to_string(&seal(&root(1), &[1, 2])).expect("JSON");
    assert!(open(&serde_json::from_str(&text).expect("an envelope")).is_ok());
    for at in (0..text.len()).step_by(7) {
        let mut bytes = text.clone().into_bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        let read: Result<Envelope, _> = serde_json::from_slice(&bytes);
        let opened = read.ok().and_then(|envelope| open(&envelope).ok());
        assert!(opened.is_none(), "byte {at} of {text}");
    }
}
