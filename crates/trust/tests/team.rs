//! Roles that are held for one team, and which team a machine belongs to.

use stockade_policy::Role;
use stockade_trust::{
    Directory, Envelope, GrantError, Keys, Membership, Root, SecretKey, StatementError, TeamId,
    role_in,
};
use stockade_types::UnixMillis;

use crate::lab::{Lab, NOW};

fn team(id: &str) -> TeamId {
    TeamId::new(id).expect("an id")
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn root() -> Root {
    let keys = |seed| Keys {
        keys: vec![key(seed).public()],
        threshold: 1,
    };
    Root {
        org: "shop".to_owned(),
        version: 1,
        not_after: UnixMillis(u64::MAX),
        root: keys(11),
        people: keys(12),
        policy: keys(13),
        servers: keys(14),
    }
}

fn membership() -> Membership {
    Membership {
        org: "shop".to_owned(),
        node: "n-1".to_owned(),
        team: Some(team("tm-1")),
        serial: 3,
        not_after: UnixMillis(NOW + 1),
    }
}

#[test]
fn a_machine_takes_its_own_membership_and_never_an_older_one() {
    let take = |said: &Membership, seed, node: &str, known| {
        let envelope = Envelope::seal(said, &[&key(seed)]).unwrap();
        root().membership(&envelope, node, known, UnixMillis(NOW))
    };
    let good = membership();
    assert_eq!(take(&good, 12, "n-1", 3).unwrap(), good);
    // The keys for other things say nothing about teams.
    for seed in [11, 13, 14, 15] {
        assert!(matches!(
            take(&good, seed, "n-1", 0),
            Err(StatementError::Envelope(_))
        ));
    }
    assert!(matches!(
        take(&good, 12, "n-2", 0),
        Err(StatementError::Machine { .. })
    ));
    assert!(matches!(
        take(&good, 12, "n-1", 4),
        Err(StatementError::Serial { .. })
    ));
    let other = Membership {
        org: "other".to_owned(),
        ..membership()
    };
    assert!(matches!(
        take(&other, 12, "n-1", 0),
        Err(StatementError::Organisation { .. })
    ));
    let old = Membership {
        not_after: UnixMillis(NOW),
        ..membership()
    };
    assert!(matches!(
        take(&old, 12, "n-1", 0),
        Err(StatementError::Expired)
    ));
    // Another statement of the same keys is none.
    let people = Envelope::seal(&Lab::new().directory, &[&key(12)]).unwrap();
    assert!(
        root()
            .membership(&people, "n-1", 0, UnixMillis(NOW))
            .is_err()
    );
}

/// Makes every role of every person one for a team.
fn scoped(directory: &Directory, to: &TeamId) -> Directory {
    let mut directory = directory.clone();
    for person in &mut directory.people {
        person.roles = person.roles.iter().map(|role| role_in(role, to)).collect();
    }
    directory
}

#[test]
fn votes_by_roles_of_a_team_count_for_its_machines_alone() {
    let mut lab = Lab::new();
    let whole = lab.directory.clone();
    let envelope = lab.seal(&lab.grant(lab.votes()));
    assert!(
        lab.judge(&envelope).is_ok(),
        "a control: roles of the whole organisation"
    );
    let people = scoped(&whole, &team("tm-1"));
    lab.directory = people.within(Some(&team("tm-1")));
    assert!(
        lab.judge(&envelope).is_ok(),
        "the machine belongs to the team"
    );
    // Of another team, of none, and of an older version, which reads the directory as it is.
    for directory in [
        people.within(Some(&team("tm-2"))),
        people.within(None),
        people,
    ] {
        lab.directory = directory;
        let refused = lab.judge(&envelope);
        assert!(
            matches!(refused, Err(GrantError::Vote { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn roles_are_read_as_they_are_held() {
    let mut person = Lab::new().directory.people.remove(0);
    let roles = [
        "owner",
        "security@tm-1",
        "owner@tm-1",
        "legal@tm-2",
        "@tm-1",
        "a@tm-1@tm-1",
        "b@",
    ];
    person.roles = roles.iter().map(|role| Role((*role).to_owned())).collect();
    let within = |team: Option<&TeamId>| {
        let roles = person.roles_within(team).into_iter();
        roles.map(|role| role.0).collect::<Vec<_>>()
    };
    assert_eq!(within(None), ["owner"]);
    assert_eq!(within(Some(&team("tm-1"))), ["owner", "security"]);
    assert_eq!(within(Some(&team("tm-2"))), ["owner", "legal"]);
    for wrong in ["", "A", "a@b", "a b", &"a".repeat(41)] {
        assert!(TeamId::new(wrong).is_none(), "{wrong:?}");
    }
}
