//! The revision of a policy is part of grants, of records and of the wire format: moving code must
//! not change it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use stockade_policy::{HostSets, Origin, SetHost, Source, builtin, builtin_names, load};
use stockade_types::{Digest, Port};

fn source(origin: Origin, name: &str, text: &str) -> Source {
    Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn revision(sources: &[Source], sets: &HostSets) -> String {
    load(sources, sets).unwrap().revision().to_string()
}

/// Writes each field after its length in eight bytes.
fn hashed(fields: &[&str]) -> String {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&u64::try_from(field.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    Digest::of(&bytes).to_string()
}

#[test]
fn the_revision_is_the_hash_of_what_was_loaded() {
    for name in builtin_names() {
        let text = builtin(name).unwrap();
        let mut bases = Vec::new();
        let mut at = text;
        while let Some(base) = base(at) {
            at = builtin(base).unwrap();
            bases.push(at);
        }
        let mut fields = vec!["stockade policy 1"];
        for text in bases.iter().rev().chain([&text]) {
            fields.extend(["builtin", text]);
        }
        let found = revision(&[source(Origin::Builtin, name, text)], &HostSets::default());
        assert_eq!(found, hashed(&fields), "{name}");
    }
}

/// Returns the one preset that a preset extends.
fn base(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("extends"))?;
    line.split_once("builtin:")?.1.split('"').next()
}

#[test]
fn the_revisions_of_these_policies_never_change() {
    let empty = source(Origin::User, "user.toml", "schema = 1\n");
    let rules = "schema = 1\n\
                 [[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nports = [80]\nmethods = [\"GET\"]\n\
                 [[ask]]\nid = \"b\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\nexpires = \"15m\"\n\
                 [[deny]]\nid = \"c\"\nwhat = \"file\"\npaths = [\"src/generated/**\"]\naccess = [\"write\"]\n";
    let layers = [
        source(Origin::Session, "session.toml", rules),
        source(Origin::Organisation, "policy.toml", rules),
        empty.clone(),
    ];
    let host = |port| SetHost {
        host: "registry.test".parse().unwrap(),
        port,
    };
    let sets = HostSets(BTreeMap::from([
        ("npm".to_owned(), vec![host(None), host(Port::new(8443))]),
        ("apt".to_owned(), Vec::new()),
    ]));
    let found = [
        revision(&[empty], &HostSets::default()),
        revision(&layers, &HostSets::default()),
        revision(&layers, &sets),
    ];
    assert_eq!(
        found,
        [
            "f8a4f9f76e35123209e0549c2f542806bf430327256e4219d8b27ce1a1871201",
            "0efc69d58d0cbbf6d3123f8180b1af0b17cbd02ca5eb424552f0b82f8374b649",
            "58485d4d3bb004361e64211091cb19bb3a04df59accb9f08819db9a1c3981191",
        ]
    );
}
