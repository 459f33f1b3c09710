//! Several sources that tell of the same, and one that lies.

use stockade_types::ClaimSource;

use super::{super::lock, *};

/// Makes a claim by another source than traffic.
pub(super) fn by(source: ClaimSource, mut event: Event) -> Event {
    if let Event::PromptSubmitted {
        learned_from,
        decision,
        ..
    }
    | Event::ToolCalled {
        learned_from,
        decision,
        ..
    }
    | Event::ToolReturned {
        learned_from,
        decision,
        ..
    } = &mut event
    {
        (*learned_from, *decision) = (source, None);
    }
    event
}

fn admitted(origins: &Origins, event: &Event, intent: &Intent) -> Admitted {
    origins.admits(&mut event.clone(), intent)
}

/// Whatever order they come in, one call is one event, and a command of it is exact only because of
/// traffic.
#[test]
fn a_call_that_two_sources_tell_of_is_one_call() {
    let hooked = |id| by(ClaimSource::Hook, called(AGENT, id));
    let origins = session();
    claim(&origins, 5, called(AGENT, "a"), intent("make")).unwrap();
    let again = Admitted::again(5);
    assert_eq!(admitted(&origins, &hooked("a"), &intent("make")), again);
    let first = executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    assert_eq!((first.call, first.certainty), (5, Certainty::Exact));

    let origins = session();
    claim(&origins, 5, hooked("a"), intent("make")).unwrap();
    claim(&origins, 6, hooked("b"), intent("make test")).unwrap();
    claim(&origins, 7, called(AGENT, "a"), intent("make")).unwrap();
    let both = executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    assert_eq!((both.call, both.certainty), (5, Certainty::Exact));
    let only = executes(&origins, 12, Some(AGENT), &["sh", "-c", "make test"]).unwrap();
    assert_eq!((only.call, only.certainty), (6, Certainty::Inferred));
}

/// A hook that told of a call first does not keep what the model asked for out of the record.
#[test]
fn where_sources_differ_traffic_is_recorded_and_a_finding_tells_of_it() {
    for hook_first in [true, false] {
        let origins = session();
        let hook = by(ClaimSource::Hook, called(AGENT, "a"));
        let traffic = called(AGENT, "a");
        let steps = [(hook, "true"), (traffic, "make")];
        let order = if hook_first { [0, 1] } else { [1, 0] };
        for (seq, at) in (5..).zip(order) {
            let (event, says) = &steps[at];
            claim(&origins, seq, event.clone(), intent(says)).unwrap();
        }
        let findings = origins.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].line().contains("two sources differ"),
            "{findings:?}"
        );
        let made = executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
        let traffic = if hook_first { 6 } else { 5 };
        assert_eq!((made.call, made.certainty), (traffic, Certainty::Exact));
        assert_eq!(
            executes(&origins, 12, Some(AGENT), &["sh", "-c", "true"]),
            None
        );
    }
}

/// What another source says of a result does not end a call that traffic showed, before or after it.
#[test]
fn a_result_by_another_source_ends_nothing() {
    let origins = session();
    let hooked = by(ClaimSource::Hook, returned(AGENT, "a"));
    claim(&origins, 5, called(AGENT, "a"), intent("make")).unwrap();
    let none = Intent::default();
    assert_eq!(admitted(&origins, &hooked, &none), Admitted::again(5));
    let made = executes(&origins, 11, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    assert_eq!((made.call, made.certainty), (5, Certainty::Exact));
    claim(&origins, 6, returned(AGENT, "a"), Intent::default()).unwrap();
    assert_eq!(admitted(&origins, &hooked, &none), Admitted::Before);
    let late = by(ClaimSource::Otlp, called(AGENT, "a"));
    assert_eq!(admitted(&origins, &late, &none), Admitted::again(5));
}

/// A prompt of a hook is the turn until traffic is seen, which takes it over; later ones are not.
#[test]
fn a_prompt_is_the_turn_once_traffic_has_it() {
    let origins = session();
    let hooked = |text| by(ClaimSource::Hook, prompt(AGENT, text));
    claim(&origins, 5, hooked("do it"), Intent::default()).unwrap();
    let turn = || cause(&origins, AGENT, "/w/x").and_then(|cause| cause.turn);
    assert_eq!(turn(), Some(5));
    let traffic = prompt(AGENT, "do it");
    assert_eq!(
        admitted(&origins, &traffic, &Intent::default()),
        Admitted::again(5)
    );
    claim(&origins, 6, prompt(AGENT, "do that"), Intent::default()).unwrap();
    assert_eq!(turn(), Some(6));
    claim(&origins, 7, hooked("forged"), Intent::default()).unwrap();
    assert_eq!(turn(), Some(6));
}

/// A flood of ids and texts is held in bounded size.
#[test]
fn what_sources_say_is_bounded() {
    let origins = session();
    for seq in 0..5_000_u64 {
        let hook = by(ClaimSource::Hook, called(AGENT, &format!("id {seq}")));
        claim(&origins, 3 * seq + 1, hook, intent("x"));
        let prompted = by(ClaimSource::Otlp, prompt(AGENT, &format!("text {seq}")));
        claim(&origins, 3 * seq + 2, prompted, Intent::default());
        let done = by(ClaimSource::Hook, returned(AGENT, &format!("id {seq}")));
        claim(&origins, 3 * seq + 3, done, Intent::default());
    }
    let state = lock(&origins.state);
    assert!(state.regions[&0].remembered() < 5_000);
}

/// A third source tells of the same too; said once more, it is something new.
#[test]
fn three_sources_tell_of_one_prompt() {
    let origins = session();
    let none = Intent::default();
    let sources = [ClaimSource::Hook, ClaimSource::Traffic, ClaimSource::Otlp];
    let said = |source| match source {
        ClaimSource::Traffic => prompt(AGENT, "do it"),
        ClaimSource::Hook | ClaimSource::Otlp | ClaimSource::Mcp => {
            by(source, prompt(AGENT, "do it"))
        }
    };
    for (turn, first) in [(1, 5), (2, 8)] {
        for source in sources {
            let event = said(source);
            let admitted = admitted(&origins, &event, &none);
            if source == ClaimSource::Hook {
                assert_eq!(admitted, Admitted::New, "turn {turn}");
                origins.claimed(first, &event, Intent::default());
            } else {
                assert_eq!(admitted, Admitted::again(first), "turn {turn}, {source}");
                origins.repeated(first, &event, Intent::default());
            }
        }
        origins.claimed(first + 1, &answered(1, 0), Intent::default());
    }
}
