use cedar_policy::{ValidationMode, Validator};

use super::{
    About, Action, Circumstances, Held, Place, Principal, ROLES, ROLES_OF_THE_WHOLE, RULES, Thing,
    allows, policies, schema,
};

const ORG: &str = "acme";
const BEST: Circumstances = Circumstances::BEST;

fn who<'a>(held: &'a [Held<'a>]) -> Principal<'a> {
    Principal {
        org: ORG,
        id: "u-1",
        held,
    }
}

fn whole(role: &str) -> Held<'_> {
    Held { role, team: None }
}

fn of_team<'a>(role: &'a str, team: &'a str) -> Held<'a> {
    Held {
        role,
        team: Some(team),
    }
}

/// Something of the kind that an action is about, in a team and of an owner, which asks these roles.
fn thing<'a>(
    action: Action,
    team: Option<&'a str>,
    owner: Option<&'a str>,
    asks: &'a [&'a str],
) -> Thing<'a> {
    let place = Place { team, owner };
    match action.about() {
        About::Whole => Thing::Whole,
        About::Node => Thing::Node(place),
        About::Session => Thing::Session(place),
        About::Question => Thing::Question {
            team,
            requesters: &[],
            asks,
        },
    }
}

#[test]
fn the_policies_fit_their_schema() {
    let schema = schema().unwrap();
    let policies = policies().unwrap();
    assert!(policies.policies().count() > 20);
    let validator = Validator::new(schema.clone());
    let result = validator.validate(&policies, ValidationMode::Strict);
    let mistakes: Vec<String> = result
        .validation_errors()
        .map(ToString::to_string)
        .collect();
    assert_eq!(mistakes, Vec::<String>::new());
    let warnings: Vec<String> = result
        .validation_warnings()
        .map(ToString::to_string)
        .collect();
    assert_eq!(warnings, Vec::<String>::new());
    // The control: a policy about what is not there does not fit.
    let wrong = "permit (principal, action == Action::\"vote\", resource) when { resource.owner == principal };";
    let wrong = validator.validate(&wrong.parse().unwrap(), ValidationMode::Strict);
    assert!(!wrong.validation_passed());
}

/// What is made for a decision is what the schema has: a policy that was validated cannot fail on it.
#[test]
fn every_request_fits_the_schema() {
    let schema = schema().unwrap();
    let rules = RULES.as_ref().unwrap();
    let held = [
        whole("viewer"),
        whole("security"),
        of_team("developer", "tm-1"),
        of_team("legal", "tm-2"),
    ];
    let principal = who(&held);
    for action in Action::ALL {
        for (team, owner) in [
            (None, None),
            (Some("tm-1"), Some("u-1")),
            (Some("tm-3"), Some("u-2")),
        ] {
            let thing = thing(action, team, owner, &["security"]);
            let made = rules
                .makes
                .checked(&principal, action, (ORG, &thing), &schema);
            assert_eq!(made, Ok(()), "{action:?} {thing:?}");
        }
    }
    let proposal = Thing::Proposal("u-2");
    let made = rules
        .makes
        .checked(&principal, Action::PublishPolicy, (ORG, &proposal), &schema);
    assert_eq!(made, Ok(()));
    // The control: no policy is about publishing a machine.
    let wrong = Thing::Node(Place::default());
    let made = rules
        .makes
        .checked(&principal, Action::PublishPolicy, (ORG, &wrong), &schema);
    assert!(made.is_err());
}

/// What each role gives, as it was before Cedar decided it: `A` everything, `O` what is one's own (of questions:
/// those that ask one's role), `-` nothing. It is written independently of the policies.
const GIVES: &[(&str, &str)] = &[
    // ov qu vo se st rc tf in fl mf po pp pu sp mp au me
    ("viewer", "A A - A - - - A A - A - - - - - -"),
    ("developer", "A O - O O - - O - - A - - - - - -"),
    ("policy-author", "A - - - - - - - - - A A - - - - -"),
    ("policy-approver", "A - - - - - - - A - A A A - - - -"),
    ("fleet-operator", "A - - A A - - A A A A - - - - - A"),
    ("analyst", "A A - A - - A A A - A - - - - - -"),
    ("auditor", "A A - A - - - A A - A - - A - A -"),
    ("privacy-officer", "A - - - - - - - - - - - - A - A -"),
    ("incident-lead", "A A O A A A A A A - - - - - - - -"),
    ("monitor", "- - - - - - - - - - - - - - - - A"),
    ("content-reader", "A - - A - A - - - - - - - - - - -"),
    ("admin", "A A - A A - A A A A A A A A A A A"),
    ("security", "A O O O - - - - - - - - - - - - -"),
];

/// What a role that is held for one team gives of what is about the organisation as a whole.
const TEAM_SEES_OF_THE_WHOLE: [Action; 2] = [Action::SeeOverview, Action::SeePolicy];

fn given(role: &str, action: Action) -> char {
    let place = Action::ALL.iter().position(|one| *one == action).unwrap();
    let (_, row) = GIVES.iter().find(|(name, _)| *name == role).unwrap();
    row.split(' ').nth(place).unwrap().chars().next().unwrap()
}

#[test]
fn each_role_gives_what_the_table_says_everywhere_it_is_held() {
    let mut told = [0, 0];
    for (role, _) in GIVES {
        for action in Action::ALL {
            let gives = given(role, action);
            for team in [None, Some("tm-1"), Some("tm-2")] {
                for (owner, asks) in [(Some("u-1"), true), (Some("u-2"), false), (None, false)] {
                    let asks: &[&str] = if asks { &[role] } else { &["other"] };
                    let about = thing(action, team, owner, asks);
                    let is_own = owner == Some("u-1");
                    // Held for the whole organisation, it counts for each team and for machines without one.
                    let expected = gives == 'A' || gives == 'O' && is_own;
                    let found = allows(&who(&[whole(role)]), action, (ORG, &about), BEST);
                    assert_eq!(found, expected, "{role} {action:?} {about:?}");
                    told[usize::from(found)] += 1;
                    // Held for one team, it counts for its machines alone.
                    let is_there = if action.about() == About::Whole {
                        TEAM_SEES_OF_THE_WHOLE.contains(&action)
                    } else {
                        team == Some("tm-1")
                    };
                    let expected = expected && is_there && !ROLES_OF_THE_WHOLE.contains(role);
                    let found = allows(&who(&[of_team(role, "tm-1")]), action, (ORG, &about), BEST);
                    assert_eq!(found, expected, "{role}@tm-1 {action:?} {about:?}");
                    told[usize::from(found)] += 1;
                    // Nothing of another organisation, whoever asks.
                    for held in [whole(role), of_team(role, "tm-1")] {
                        assert!(!allows(&who(&[held]), action, ("other", &about), BEST));
                    }
                    assert!(
                        !allows(&who(&[]), action, (ORG, &about), BEST),
                        "{action:?}"
                    );
                }
            }
        }
    }
    assert!(told[0] > 500 && told[1] > 300, "{told:?}");
    assert!(
        ROLES
            .iter()
            .all(|role| GIVES.iter().any(|(name, _)| name == role))
    );
}

#[test]
fn circumstances_forbid() {
    let admin = [whole("admin"), whole("incident-lead"), whole("security")];
    let principal = who(&admin);
    let asks = ["security"];
    for (action, needs_step_up) in Action::ALL.map(|action| {
        let reads = [
            Action::SeeOverview,
            Action::SeeQuestions,
            Action::SeeSessions,
            Action::SeeIntegrity,
            Action::SeeFleet,
            Action::SeePolicy,
            Action::SeePeople,
            Action::SeeAudit,
            Action::SeeMetrics,
            Action::ProposePolicy,
        ];
        (action, !reads.contains(&action))
    }) {
        let about = thing(action, Some("tm-1"), None, &asks);
        let ask = |how| allows(&principal, action, (ORG, &about), how);
        assert!(ask(BEST), "{action:?}");
        let stale = Circumstances {
            step_up: false,
            ..BEST
        };
        assert_eq!(ask(stale), !needs_step_up, "{action:?}");
        let unreasoned = Circumstances {
            has_reason: false,
            ..BEST
        };
        assert_eq!(ask(unreasoned), action != Action::ReadContent, "{action:?}");
        let asking = Circumstances {
            is_requester: true,
            ..BEST
        };
        assert_eq!(ask(asking), action != Action::Vote, "{action:?}");
    }
    // Who asks has no vote, whether the caller or the question says so.
    let own = Thing::Question {
        team: None,
        requesters: &["u-1"],
        asks: &asks,
    };
    assert!(!allows(&principal, Action::Vote, (ORG, &own), BEST));
    assert!(allows(&principal, Action::SeeQuestions, (ORG, &own), BEST));
    // Who made a proposal does not approve it; another one does.
    let publish = |author, how| {
        let thing = Thing::Proposal(author);
        allows(&principal, Action::PublishPolicy, (ORG, &thing), how)
    };
    assert!(publish("u-2", BEST));
    assert!(!publish("u-1", BEST));
    let is_author = Circumstances {
        is_author: true,
        ..BEST
    };
    assert!(!publish("u-2", is_author));
}

/// Names that look like what the entities are made of give nothing.
#[test]
fn names_that_look_like_places_give_nothing() {
    let session = Thing::Session(Place {
        team: Some("tm-1"),
        owner: None,
    });
    let unplaced = Thing::Session(Place::default());
    let question = Thing::Question {
        team: Some("tm-1"),
        requesters: &[],
        asks: &["security"],
    };
    let may = |held: Held<'_>, action, thing: &Thing<'_>| {
        allows(&who(&[held]), action, (ORG, thing), BEST)
    };
    // Controls: what is held as it has to be counts.
    assert!(may(
        of_team("viewer", "tm-1"),
        Action::SeeSessions,
        &session
    ));
    assert!(may(whole("viewer"), Action::SeeSessions, &unplaced));
    assert!(may(of_team("security", "tm-1"), Action::Vote, &question));
    for held in [
        whole("viewer@tm-1"),
        whole("viewer@"),
        whole("viewer@*"),
        whole(""),
        of_team("viewer", ""),
        of_team("viewer", "*"),
        of_team("viewer@tm-1", "tm-2"),
        of_team("viewer", "tm-2"),
        of_team("viewer", "tm-1@tm-1"),
        of_team("admin", "tm-1"),
        of_team("admin", ""),
        of_team("monitor", "tm-1"),
    ] {
        for thing in [&session, &unplaced] {
            assert!(!may(held, Action::SeeSessions, thing), "{held:?}");
        }
        assert!(!may(held, Action::ManagePeople, &Thing::Whole), "{held:?}");
        assert!(!may(held, Action::SeeAudit, &Thing::Whole), "{held:?}");
    }
    // A question cannot ask a role of another place.
    for asks in [["security@tm-1"], ["security@tm-2"], ["security@*"]] {
        let question = Thing::Question {
            team: Some("tm-2"),
            requesters: &[],
            asks: &asks,
        };
        assert!(
            !may(of_team("security", "tm-1"), Action::Vote, &question),
            "{asks:?}"
        );
        assert!(!may(whole("security"), Action::Vote, &question), "{asks:?}");
    }
}

/// Text that would close a literal of Cedar is text.
#[test]
fn names_that_look_like_policies_are_names() {
    let session = Thing::Session(Place::default());
    let hostile = "x\", \"y\" in Role::\"admin";
    let held = [whole("viewer")];
    let principal = Principal {
        org: ORG,
        id: hostile,
        held: &held,
    };
    assert!(allows(
        &principal,
        Action::SeeSessions,
        (ORG, &session),
        BEST
    ));
    assert!(!allows(
        &principal,
        Action::ManagePeople,
        (ORG, &Thing::Whole),
        BEST
    ));
}

/// A decision costs far less than a row of a page may: a list of hundreds stays fast.
#[test]
fn a_decision_takes_little_time() {
    const COUNT: u32 = 400;
    let held = [
        whole("developer"),
        of_team("viewer", "tm-1"),
        of_team("security", "tm-2"),
    ];
    let principal = who(&held);
    let about = Thing::Question {
        team: Some("tm-2"),
        requesters: &["u-9"],
        asks: &["security", "owner"],
    };
    let begun = std::time::Instant::now();
    for _ in 0..COUNT {
        assert!(allows(&principal, Action::Vote, (ORG, &about), BEST));
    }
    let each = begun.elapsed() / COUNT;
    println!("a decision takes {each:?}");
    // Ten times what it takes without optimisation on a slow machine.
    assert!(each.as_millis() < 20, "{each:?}");
}
