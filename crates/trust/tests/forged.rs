//! Every way we know to get a yes that nobody gave. Each case begins with a grant that the machine takes.

use stockade_policy::Scope;
use stockade_trust::{Choice, Directory, Envelope, Grant, GrantError, Keys, Proof, SecretKey};
use stockade_types::{Digest, SessionId, UnixMillis};

use crate::lab::{Authenticator, Lab, NOT_AFTER, NOW, id};

#[test]
fn a_grant_with_all_votes_is_taken() {
    let lab = Lab::new();
    let granted = lab
        .judge_grant(&lab.grant(lab.votes()))
        .expect("all is there");
    assert_eq!(granted.by, ["ann", "ben", "cara"].map(id));
    assert_eq!((granted.scope, granted.not_after), (Scope::Once, NOT_AFTER));
    assert_eq!(granted.broken_glass, None);
}

/// Changes a grant that would be taken, signs it again as a thief of the server's key can, and says what
/// the machine answers.
fn forge(change: impl FnOnce(&Lab, &mut Grant)) -> String {
    let lab = Lab::new();
    let mut grant = lab.grant(lab.votes());
    assert!(lab.judge_grant(&grant).is_ok());
    change(&lab, &mut grant);
    lab.judge_grant(&grant)
        .expect_err("it is forged")
        .to_string()
}

#[test]
fn a_grant_for_anything_else_is_refused() {
    type Change = fn(&mut Grant);
    let cases: [(&str, Change); 8] = [
        ("another organisation", |grant| grant.org = "other".into()),
        ("another machine", |grant| grant.node = "n-2".into()),
        ("another session", |grant| {
            grant.session = SessionId::from_random(6);
        }),
        ("another question", |grant| {
            grant.approval = "00000006".parse().expect("an id");
        }),
        ("another asking of the question", |grant| {
            grant.nonce = stockade_trust::Nonce::new([8; 16]);
        }),
        ("another request", |grant| grant.request = Digest::of(b"rm")),
        ("another policy", |grant| {
            grant.revision = Digest::of(b"older");
        }),
        ("another text", |grant| {
            grant.rendered = Digest::of(b"harmless");
        }),
    ];
    for (expected, change) in cases {
        let said = forge(|_, grant| change(grant));
        assert!(said.contains(expected), "{said}");
    }
}

/// Strong votes are bound to the ballot: who holds the server's key can move none of them to another
/// question, and change nothing of them.
#[test]
fn a_vote_holds_for_its_ballot_alone() {
    type Change = fn(&mut Lab);
    let others: [Change; 7] = [
        |lab| lab.session = SessionId::from_random(6),
        |lab| lab.approval = "00000006".parse().expect("an id"),
        |lab| lab.nonce = stockade_trust::Nonce::new([8; 16]),
        |lab| lab.request = Digest::of(b"git push --force"),
        |lab| lab.revision = Digest::of(b"older"),
        |lab| lab.rendered = Digest::of(b"harmless"),
        |lab| lab.requesters.clear(),
    ];
    for (at, change) in others.into_iter().enumerate() {
        let mut lab = Lab::new();
        let votes = lab.votes();
        change(&mut lab);
        let judged = lab.judge_grant(&lab.grant(votes));
        // The last one changes nothing that a ballot has: it shows that the others are refused for it.
        if at == 6 {
            assert!(judged.is_ok(), "{judged:?}");
        } else {
            let said = judged.expect_err("it is another ballot").to_string();
            assert!(said.contains("ballot"), "{at}: {said}");
        }
    }
}

#[test]
fn what_a_voter_said_cannot_be_changed() {
    type Change = fn(&mut Grant);
    let cases: [Change; 6] = [
        |grant| grant.votes[1].reason = Some("other".into()),
        |grant| grant.votes[1].reason = None,
        |grant| {
            grant
                .votes
                .iter_mut()
                .for_each(|vote| vote.scope = Scope::Uses(3));
            grant.scope = Scope::Uses(3);
        },
        |grant| {
            let later = UnixMillis(NOT_AFTER.0 + 1);
            grant
                .votes
                .iter_mut()
                .for_each(|vote| vote.not_after = later);
            grant.not_after = later;
        },
        |grant| grant.votes[2].user = id("ben"),
        |grant| grant.votes[1].choice = Choice::Deny,
    ];
    for (at, change) in cases.into_iter().enumerate() {
        let said = forge(|_, grant| change(grant));
        let is_seen = said.contains("ballot") || said.contains("voted before");
        assert!(is_seen, "{at}: {said}");
    }
}

#[test]
fn nobody_votes_twice_for_himself_or_without_the_role() {
    let twice = forge(|lab, grant| {
        grant.votes[2] = lab.with(&lab.ben, Lab::vote("ben", "security"));
    });
    assert!(twice.contains("voted before"), "{twice}");
    let in_two_stages = forge(|lab, grant| {
        grant.votes[0] = lab.with(&lab.ben, Lab::vote("ben", "owner"));
    });
    assert!(in_two_stages.contains("voted before"), "{in_two_stages}");
    let own = forge(|_, grant| grant.votes[0] = Lab::vote("otto", "owner"));
    assert!(own.contains("the person asks"), "{own}");
    let stranger = forge(|_, grant| grant.votes[0] = Lab::vote("eve", "owner"));
    assert!(stranger.contains("nobody of that name"), "{stranger}");
    let role = forge(|lab, grant| {
        grant.votes[1] = lab.with(&lab.ann, Lab::vote("ann", "security"));
        grant.votes[0] = Lab::vote("ben", "owner");
    });
    assert!(role.contains("does not have the role"), "{role}");
    let nowhere = forge(|_, grant| grant.votes[0] = Lab::vote("ann", "managers"));
    assert!(nowhere.contains("no such stage"), "{nowhere}");
}

#[test]
fn a_stage_needs_its_votes() {
    for missing in 0..3 {
        let said = forge(|_, grant| drop(grant.votes.remove(missing)));
        let expected = if missing == 0 {
            "`owner`"
        } else {
            "`security`"
        };
        assert!(
            said.contains(expected) && said.contains("not complete"),
            "{said}"
        );
    }
    let none = forge(|_, grant| grant.votes.clear());
    assert!(none.contains("not complete"), "{none}");
    let weak = forge(|_, grant| grant.votes[1] = Lab::vote("ben", "security"));
    assert!(weak.contains("only signed in"), "{weak}");
    let vetoed = forge(|_, grant| {
        let mut no = Lab::vote("ben", "owner");
        no.choice = Choice::Deny;
        grant.votes[1] = no;
    });
    assert!(vetoed.contains("`owner` has denied"), "{vetoed}");
}

/// A machine checks passkeys and keys itself, against what it has pinned.
#[test]
fn a_strong_vote_is_proved_by_what_the_machine_pinned() {
    let new_passkey = forge(|lab, grant| {
        let thief = Authenticator::new("ben-2");
        grant.votes[1] = lab.with(&thief, Lab::vote("ben", "security"));
    });
    assert!(new_passkey.contains("does not have"), "{new_passkey}");
    let same_id = forge(|lab, grant| {
        let thief = Authenticator::new("ben-1");
        grant.votes[1] = lab.with(&thief, Lab::vote("ben", "security"));
    });
    assert!(same_id.contains("signature is wrong"), "{same_id}");
    let of_another = forge(|lab, grant| {
        grant.votes[1] = lab.with(&lab.dora, Lab::vote("ben", "security"));
    });
    assert!(of_another.contains("does not have"), "{of_another}");
    let key = forge(|lab, grant| {
        let thief = SecretKey::from_seed(&[3; 32]);
        grant.votes[2] = lab.signed(&thief, Lab::vote("cara", "security"));
    });
    assert!(key.contains("does not have"), "{key}");
    let named = forge(|lab, grant| {
        let thief = SecretKey::from_seed(&[3; 32]);
        let mut vote = lab.signed(&thief, Lab::vote("cara", "security"));
        if let Proof::Key { key, .. } = &mut vote.proof {
            *key = lab.cara_key.public().id();
        }
        grant.votes[2] = vote;
    });
    assert!(named.contains("has not signed"), "{named}");
    let mut revoked = Lab::new();
    let grant = revoked.grant(revoked.votes());
    revoked.directory.people[1].passkeys.clear();
    let said = revoked
        .judge_grant(&grant)
        .expect_err("revoked")
        .to_string();
    assert!(said.contains("does not have"), "{said}");
    let mut left = Lab::new();
    let grant = left.grant(left.votes());
    left.directory.people[1].roles.clear();
    let said = left.judge_grant(&grant).expect_err("no role").to_string();
    assert!(said.contains("does not have the role"), "{said}");
}

#[test]
fn an_assertion_is_of_the_pinned_page_and_of_a_person_who_was_checked() {
    type Change = fn(&mut Authenticator);
    let cases: [(&str, Change); 6] = [
        ("another page", |key| {
            key.party.origin = "https://evil.test".into();
        }),
        ("another name", |key| key.party.id = "evil.test".into()),
        ("not an assertion", |key| key.kind = "webauthn.create"),
        ("nobody confirmed", |key| key.flags = 0x04),
        ("has not checked who", |key| key.flags = 0x01),
        ("what the authenticator said", |key| key.flags = 0x15),
    ];
    for (expected, change) in cases {
        let mut lab = Lab::new();
        change(&mut lab.ben);
        let said = lab
            .judge_grant(&lab.grant(lab.votes()))
            .expect_err("forged")
            .to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn time_and_reach_are_bounded_by_the_rule_and_by_each_voter() {
    let wide = forge(|_, grant| {
        let all = grant
            .votes
            .iter()
            .map(|vote| Lab::vote(&vote.user.0, &vote.stage));
        grant.votes = all.collect();
        grant.scope = Scope::Session;
    });
    assert!(wide.contains("wider than"), "{wide}");
    let wider_than_voters = forge(|_, grant| grant.scope = Scope::Uses(2));
    assert!(
        wider_than_voters.contains("less far"),
        "{wider_than_voters}"
    );
    let longer = forge(|_, grant| grant.not_after = UnixMillis(NOT_AFTER.0 + 1));
    assert!(longer.contains("less far"), "{longer}");
    let future = forge(|_, grant| {
        let mut vote = Lab::vote("ann", "owner");
        vote.at = UnixMillis(NOW + 3_600_000);
        grant.votes[0] = vote;
    });
    assert!(future.contains("in the future"), "{future}");
    let mut late = Lab::new();
    let grant = late.grant(late.votes());
    late.now = NOT_AFTER.0;
    assert_eq!(late.judge_grant(&grant), Err(GrantError::Expired));
    let mut stale = Lab::new();
    let grant = stale.grant(stale.votes());
    stale.directory.not_after = UnixMillis(NOW);
    assert_eq!(stale.judge_grant(&grant), Err(GrantError::Directory));
    let mut unknown = Lab::new();
    let grant = unknown.grant(unknown.votes());
    unknown.requesters_are_known = false;
    assert_eq!(unknown.judge_grant(&grant), Err(GrantError::Requester));
    let many = forge(|_, grant| {
        let votes = (0..65).map(|at| Lab::vote(&format!("u{at}"), "owner"));
        grant.votes = votes.collect();
    });
    assert!(many.contains("65 votes"), "{many}");
}

#[test]
fn reasons_are_given_where_the_rule_wants_them() {
    let mut lab = Lab::new();
    lab.review.reason_required = true;
    assert!(lab.judge_grant(&lab.grant(lab.votes())).is_ok());
    for reason in [None, Some("  ".to_owned())] {
        let mut votes = lab.votes();
        votes[0].reason = reason;
        let said = lab.judge_grant(&lab.grant(votes)).expect_err("no reason");
        assert!(said.to_string().contains("no reason"), "{said}");
    }
}

/// One person can override the stages where the rule says so, for a short time and with a reason.
#[test]
fn broken_glass_is_one_strong_vote_for_a_short_time() {
    let lab = Lab::new();
    let broken = |vote| {
        let mut grant = lab.grant(vec![vote]);
        grant.broken_glass = true;
        grant
    };
    let good = broken(lab.with(&lab.dora, Lab::vote("dora", "")));
    let granted = lab.judge_grant(&good).expect("dora may");
    assert_eq!(granted.broken_glass.as_deref(), Some("release 4"));
    let refused = |grant: &Grant, expected: &str| {
        let said = lab.judge_grant(grant).expect_err(expected).to_string();
        assert!(said.contains(expected), "{said}");
    };
    refused(&broken(Lab::vote("dora", "")), "only signed in");
    refused(
        &broken(lab.with(&lab.ben, Lab::vote("ben", ""))),
        "does not have the role",
    );
    refused(
        &broken(lab.with(&lab.dora, Lab::vote("dora", "owner"))),
        "no such stage",
    );
    let mut silent = Lab::vote("dora", "");
    silent.reason = None;
    refused(&broken(lab.with(&lab.dora, silent)), "no reason");
    let mut long = Lab::vote("dora", "");
    long.not_after = UnixMillis(NOW + 7_200_000);
    let mut long = broken(lab.with(&lab.dora, long));
    long.not_after = UnixMillis(NOW + 7_200_000);
    refused(&long, "shorter time");
    let mut two = good.clone();
    two.votes.extend(lab.votes());
    refused(&two, "not complete");
    let mut closed = Lab::new();
    let vote = closed.with(&closed.dora, Lab::vote("dora", ""));
    let mut grant = closed.grant(vec![vote]);
    grant.broken_glass = true;
    closed.review.break_glass = None;
    assert_eq!(closed.judge_grant(&grant), Err(GrantError::NoGlass));
    // The vote that overrides is no vote in a stage, and the other way round.
    let stage = forge(|lab, grant| grant.votes[0] = lab.with(&lab.dora, Lab::vote("dora", "")));
    assert!(stage.contains("no such stage"), "{stage}");
}

#[test]
fn only_the_server_s_signature_over_a_grant_counts() {
    let lab = Lab::new();
    let grant = lab.grant(lab.votes());
    let said = |envelope: &Envelope| lab.judge(envelope).expect_err("it is forged").to_string();
    let thief = SecretKey::from_seed(&[4; 32]);
    let other = Envelope::seal(&grant, &[&thief]).expect("JSON");
    assert!(said(&other).contains("0 of the 1"), "{}", said(&other));
    let unsigned = Envelope::seal(&grant, &[]).expect("JSON");
    assert!(said(&unsigned).contains("0 of the 1"));
    let directory = Envelope::seal(&lab.directory, &[&lab.server]).expect("JSON");
    assert!(said(&directory).contains("expected `application/vnd.stockade.grant.1+json`"));
    let text = serde_json::to_string(&lab.seal(&grant)).expect("JSON");
    let relabelled = serde_json::to_string(&directory).expect("JSON");
    let relabelled = relabelled.replace("directory.1", "grant.1");
    let relabelled: Envelope = serde_json::from_str(&relabelled).expect("an envelope");
    assert!(said(&relabelled).contains("0 of the 1"));
    // Every byte of the envelope counts.
    for at in (0..text.len()).step_by(37) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let Ok(changed) = serde_json::from_slice::<Envelope>(&bytes) else {
            continue;
        };
        assert!(lab.judge(&changed).is_err(), "byte {at}");
    }
    let unknown = text.replacen('{', "{\"more\":1,", 1);
    assert!(serde_json::from_str::<Envelope>(&unknown).is_err());
}

/// Whoever has the server's key can sign any grant. He has no passkey and no key of a person, so whatever he
/// puts into one, no stage that needs them is complete.
#[test]
fn the_server_s_key_alone_grants_no_stage_for_passkeys() {
    let lab = Lab::new();
    assert!(lab.judge_grant(&lab.grant(lab.votes())).is_ok());
    let thief = SecretKey::from_seed(&[4; 32]);
    let own = Authenticator::new("ben-1");
    let mut earlier = Lab::new();
    earlier.nonce = stockade_trust::Nonce::new([1; 16]);
    let tries: [(&str, Vec<stockade_trust::Vote>); 8] = [
        ("no votes", Vec::new()),
        (
            "only sessions",
            ["ann", "ben", "cara"]
                .map(|name| Lab::vote(name, if name == "ann" { "owner" } else { "security" }))
                .to_vec(),
        ),
        (
            "the server's own key",
            vec![
                Lab::vote("ann", "owner"),
                lab.signed(&lab.server, Lab::vote("ben", "security")),
                lab.signed(&lab.server, Lab::vote("cara", "security")),
            ],
        ),
        (
            "keys of his own",
            vec![
                Lab::vote("ann", "owner"),
                lab.with(&own, Lab::vote("ben", "security")),
                lab.signed(&thief, Lab::vote("cara", "security")),
            ],
        ),
        ("votes of an earlier asking", earlier.votes()),
        (
            "one person's passkey in the name of two",
            vec![
                Lab::vote("ann", "owner"),
                lab.with(&lab.ben, Lab::vote("ben", "security")),
                lab.with(&lab.ben, Lab::vote("cara", "security")),
            ],
        ),
        (
            "the owner's stage alone",
            vec![Lab::vote("ann", "owner"), Lab::vote("ben", "owner")],
        ),
        ("a glass that he breaks", vec![Lab::vote("dora", "")]),
    ];
    for (what, votes) in tries {
        for broken_glass in [false, true] {
            for requester_is_known in [true, false] {
                let mut grant = lab.grant(votes.clone());
                grant.broken_glass = broken_glass;
                // Nothing that the server says changes what the machine knows of itself.
                let mut machine = Lab::new();
                machine.ben = Authenticator::new("ben-1");
                machine.requesters_are_known = requester_is_known;
                machine.directory = lab.directory.clone();
                assert!(
                    machine.judge_grant(&grant).is_err(),
                    "{what} {broken_glass}"
                );
            }
        }
    }
}

/// He signs a directory with people of his own: the machine takes one of the people keys alone.
#[test]
fn the_server_s_key_alone_names_no_people() {
    let lab = Lab::new();
    let mut people = lab.directory.clone();
    people.people.truncate(0);
    let root = stockade_trust::Root {
        org: "shop".to_owned(),
        version: 1,
        not_after: UnixMillis(NOW + 1),
        root: lab.servers.clone(),
        people: Keys {
            keys: vec![SecretKey::from_seed(&[9; 32]).public()],
            threshold: 1,
        },
        policy: lab.servers.clone(),
        servers: lab.servers.clone(),
    };
    let said = |key: &SecretKey| {
        let envelope = Envelope::seal(&people, &[key]).expect("JSON");
        root.directory(&envelope, 0, UnixMillis(NOW)).is_ok()
    };
    assert!(said(&SecretKey::from_seed(&[9; 32])));
    assert!(!said(&lab.server));
}

#[test]
fn a_threshold_is_of_different_keys() {
    let keys = [5, 6, 7].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let lab = Lab::new();
    let two_of_three = Keys {
        keys: keys.iter().map(SecretKey::public).collect(),
        threshold: 2,
    };
    let sealed = |signers: &[&SecretKey]| Envelope::seal(&lab.directory, signers).expect("JSON");
    let opens = |envelope: &Envelope| envelope.open::<Directory>(&two_of_three).is_ok();
    assert!(opens(&sealed(&[&keys[0], &keys[2]])));
    assert!(!opens(&sealed(&[&keys[0], &keys[0]])));
    assert!(!opens(&sealed(&[&keys[0], &lab.server])));
    let none = Keys {
        keys: Vec::new(),
        threshold: 0,
    };
    assert!(sealed(&[&keys[0]]).open::<Directory>(&none).is_err());
    let many: Vec<&SecretKey> = std::iter::repeat_n(&keys[0], 17).collect();
    assert!(!opens(&sealed(&many)));
}
