//! Hooks of agents, and whoever pretends to be one.

use stockade_agents::HookAgent;
use stockade_types::ClaimSource;

use super::{super::Speaker, sources::by, *};

/// Starts a hook as Claude Code does; the scope that it is in is the shell's.
fn starts_hook(origins: &Origins, pid: u32, parent: u32) {
    let script = HookAgent::Claude.command();
    assert_eq!(
        executes(origins, pid, Some(parent), &["sh", "-c", &script]),
        None
    );
    let own = ["/run/stockade/hook", "claude"];
    assert_eq!(executes(origins, pid + 1, Some(pid), &own), None);
}

/// What a hook tells is the agent's, at most inferred where no traffic shows it; the hook is no command.
#[test]
fn what_only_a_hook_tells_is_never_exact() {
    let origins = session();
    starts_hook(&origins, 20, AGENT);
    assert_eq!(origins.speaker(process(21)), Speaker::Agent);
    claim(
        &origins,
        5,
        by(ClaimSource::Hook, prompt(21, "do it")),
        Intent::default(),
    )
    .unwrap();
    claim(
        &origins,
        6,
        by(ClaimSource::Hook, called(21, "a")),
        intent("make"),
    )
    .unwrap();
    let bound = executes(&origins, 30, Some(AGENT), &["sh", "-c", "make"]);
    assert_eq!(is_for(bound), Some((6, Certainty::Inferred)));
    let effect = cause(&origins, 30, "/w/x").unwrap();
    assert_eq!((effect.turn, effect.call), (Some(5), Some(6)));
    assert_eq!(effect.certainty, Certainty::Inferred);
    // Traffic shows the same call, and makes it exact from then on.
    claim(&origins, 7, called(AGENT, "a"), intent("make")).unwrap();
    let bound = executes(&origins, 31, Some(AGENT), &["sh", "-c", "make"]);
    assert_eq!(is_for(bound), Some((6, Certainty::Exact)));
    // The hook itself is for no call, also while one is open that names no command.
    claim(&origins, 8, returned(AGENT, "a"), Intent::default()).unwrap();
    claim(&origins, 9, called(AGENT, "b"), Intent::default()).unwrap();
    starts_hook(&origins, 40, AGENT);
}

/// A command that starts the hook's program speaks for itself, whatever it starts it with.
#[test]
fn nobody_inside_a_command_speaks_through_a_hook() {
    let origins = session();
    claim(&origins, 6, called(AGENT, "a"), intent("./lies")).unwrap();
    executes(&origins, 20, Some(AGENT), &["sh", "-c", "./lies"]).unwrap();
    executes(&origins, 21, Some(20), &["./lies"]);
    // It starts it as an agent would, claims the agent's next command, and that its call returned.
    let script = HookAgent::Claude.command();
    executes(&origins, 22, Some(21), &["sh", "-c", &script]);
    executes(&origins, 23, Some(22), &["/run/stockade/hook", "claude"]);
    assert_eq!(origins.speaker(process(23)), Speaker::Other);
    claim(
        &origins,
        7,
        by(ClaimSource::Hook, called(23, "b")),
        intent("make"),
    )
    .unwrap();
    claim(
        &origins,
        8,
        by(ClaimSource::Hook, returned(23, "a")),
        Intent::default(),
    )
    .unwrap();
    claim(
        &origins,
        9,
        by(ClaimSource::Hook, prompt(23, "lies")),
        Intent::default(),
    )
    .unwrap();
    let agents = executes(&origins, 24, Some(AGENT), &["sh", "-c", "make"]);
    assert_eq!(is_for(agents), None);
    let again = executes(&origins, 25, Some(AGENT), &["sh", "-c", "./lies"]);
    assert_eq!(
        is_for(again),
        Some((6, Certainty::Exact)),
        "it is still open"
    );
    // What it claims of its own command has no certainty either.
    let own = executes(&origins, 26, Some(21), &["sh", "-c", "make"]);
    assert_ne!(is_for(own).map(|(_, how)| how), Some(Certainty::Exact));
    // A call that asks for the hook's own words is a call.
    claim(&origins, 10, called(AGENT, "c"), intent(&script)).unwrap();
    let asked = executes(&origins, 27, Some(AGENT), &["sh", "-c", &script]);
    assert_eq!(is_for(asked), Some((10, Certainty::Exact)));
    assert_eq!(origins.speaker(process(27)), Speaker::Other);
}

/// A call that the boundary denied is none without an effect.
#[test]
fn a_call_that_was_denied_is_no_finding() {
    for is_denied in [true, false] {
        let origins = session();
        claim(&origins, 6, called(AGENT, "a"), intent("make")).unwrap();
        executes(&origins, 20, Some(AGENT), &["sh", "-c", "make"]).unwrap();
        claim(&origins, 7, called(AGENT, "b"), intent("git push")).unwrap();
        starts_hook(&origins, 30, AGENT);
        claim(
            &origins,
            8,
            by(ClaimSource::Hook, called(31, "b")),
            intent("git push"),
        )
        .unwrap();
        if is_denied {
            origins.denied(process(31), 7);
        }
        claim(&origins, 9, returned(AGENT, "b"), Intent::default()).unwrap();
        assert_eq!(findings(&origins).is_empty(), is_denied);
    }
}
