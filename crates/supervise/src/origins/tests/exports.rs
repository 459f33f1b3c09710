//! What is exported: it is of less weight than anything else.

use stockade_types::ClaimSource;

use super::*;

fn exported(event: Event) -> Event {
    sources::by(ClaimSource::Otlp, event)
}

/// An export after the effect names the call of a command, and never exactly.
#[test]
fn a_command_finds_its_call_later_and_by_inference() {
    let origins = session();
    assert_eq!(
        executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]),
        None
    );
    let bound = claim(&origins, 5, exported(called(AGENT, "a")), intent("make")).unwrap();
    assert_eq!(
        (bound[0].call, bound[0].certainty),
        (5, Certainty::Inferred)
    );
    // It is exported as it is decided and as it ends.
    let again = exported(called(AGENT, "a"));
    assert_eq!(
        origins.admits(&mut again.clone(), &intent("make")),
        Admitted::Before
    );
    claim(
        &origins,
        6,
        exported(returned(AGENT, "a")),
        Intent::default(),
    )
    .unwrap();
    assert_eq!(
        origins.admits(&mut again.clone(), &intent("make")),
        Admitted::Before
    );
    let result = exported(returned(AGENT, "a"));
    assert_eq!(
        origins.admits(&mut result.clone(), &Intent::default()),
        Admitted::Before
    );
}

/// An invented call spoils nothing of what traffic shows: neither its certainty nor its file.
#[test]
fn an_invented_call_takes_nothing_from_one_of_traffic() {
    let origins = session();
    let file = Intent {
        paths: vec!["/w/x".into()],
        ..intent("make")
    };
    claim(&origins, 5, exported(called(AGENT, "forged")), file.clone()).unwrap();
    claim(&origins, 6, called(AGENT, "a"), file).unwrap();
    let made = executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    assert_eq!((made.call, made.certainty), (6, Certainty::Exact));
    let cause = cause(&origins, AGENT, "/w/x").unwrap();
    assert_eq!((cause.call, cause.certainty), (Some(6), Certainty::Exact));
}

/// A program inside a command does not become an agent by what it exports.
#[test]
fn who_exports_is_no_agent_by_that() {
    let origins = session();
    claim(&origins, 5, called(AGENT, "a"), intent("make")).unwrap();
    executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    assert_eq!(executes(&origins, 12, Some(11), &["liar"]), None);
    let forged = exported(called(12, "b"));
    assert_eq!(claim(&origins, 6, forged, intent("rm x")), Some(Vec::new()));
    assert_eq!(
        executes(&origins, 13, Some(12), &["sh", "-c", "rm x"]),
        None
    );
    let cause = cause(&origins, 13, "/w/x").unwrap();
    assert_eq!((cause.call, cause.certainty), (Some(5), Certainty::Exact));
    // The same by a call of a model makes it one, in its own command alone.
    claim(&origins, 7, called(12, "c"), intent("rm y")).unwrap();
    let own = executes(&origins, 14, Some(12), &["sh", "-c", "rm y"]).unwrap();
    assert_eq!(own.call, 7);
}

/// An agent that a launcher started is known by its exports, as long as nothing else is known there.
#[test]
fn an_agent_behind_a_launcher_is_known_by_its_exports() {
    for heard in [false, true] {
        let origins = session();
        if heard {
            claim(&origins, 4, called(AGENT, "a"), intent("other")).unwrap();
        }
        assert_eq!(executes(&origins, 11, Some(AGENT), &["native"]), None);
        let first = exported(prompt(11, "do it"));
        claim(&origins, 5, first, Intent::default()).unwrap();
        claim(&origins, 6, exported(called(11, "b")), intent("make")).unwrap();
        let own = executes(&origins, 12, Some(11), &["sh", "-c", "make"]);
        let found = own.map(|own| (own.call, own.certainty));
        assert_eq!(found, (!heard).then_some((6, Certainty::Inferred)));
    }
}

/// Some agents export no ids: their calls are known by what they name.
#[test]
fn a_call_without_an_id_is_known_by_what_it_names() {
    let origins = session();
    claim(&origins, 5, called(AGENT, "a"), intent("make")).unwrap();
    let mut same = exported(called(AGENT, ""));
    assert_eq!(
        origins.admits(&mut same, &intent("make")),
        Admitted::again(5)
    );
    let mut result = exported(returned(AGENT, ""));
    assert_eq!(
        origins.admits(&mut result, &Intent::default()),
        Admitted::Before
    );
    claim(&origins, 6, exported(called(AGENT, "")), intent("true")).unwrap();
    let mut result = exported(returned(AGENT, ""));
    assert_eq!(
        origins.admits(&mut result, &Intent::default()),
        Admitted::New
    );
    let call = match result {
        Event::ToolReturned { call, .. } => call,
        _ => None,
    };
    assert_eq!(call, Some(6));
}

/// What comes late is no reason for findings.
#[test]
fn exports_raise_no_findings() {
    let origins = session();
    claim(&origins, 5, exported(called(AGENT, "a")), intent("make")).unwrap();
    executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    claim(&origins, 6, exported(called(AGENT, "b")), intent("true")).unwrap();
    claim(
        &origins,
        7,
        exported(returned(AGENT, "b")),
        Intent::default(),
    )
    .unwrap();
    let unsaid = cause(&origins, AGENT, "/w/unsaid");
    assert!(unsaid.is_none_or(|cause| cause.call.is_none()));
    assert_eq!(origins.findings(), Vec::new());
}
