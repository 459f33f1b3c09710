//! Servers of tools: the same call, seen where it passes, and whoever pretends to pass one on.

use stockade_types::ClaimSource;

use super::{super::Speaker, *};

/// A claim about a tool of a server, with arguments of which the digest is known.
fn calls(source: ClaimSource, pid: u32, (id, name, arguments): (&str, &str, &str)) -> Event {
    Event::ToolCalled {
        process: subject(pid),
        learned_from: source,
        decision: None,
        id: id.into(),
        name: name.into(),
        arguments: Some(Said {
            bytes: u64::try_from(arguments.len()).unwrap(),
            digest: Some(Digest::of(arguments.as_bytes())),
            text: None,
        }),
    }
}

fn passes(pid: u32, id: &str, arguments: &str) -> Event {
    calls(ClaimSource::Mcp, pid, (id, "mcp__notes__add", arguments))
}

fn asks(id: &str, name: &str, arguments: &str) -> Event {
    calls(ClaimSource::Traffic, AGENT, (id, name, arguments))
}

fn came_back(source: ClaimSource, pid: u32, id: &str) -> Event {
    let mut event = returned(pid, id);
    if let Event::ToolReturned {
        learned_from,
        decision,
        ..
    } = &mut event
    {
        (*learned_from, *decision) = (source, None);
    }
    event
}

fn admitted(origins: &Origins, event: &Event) -> Admitted {
    origins.admits(&mut event.clone(), &Intent::default())
}

/// Has the agent start a server through the shim.
fn starts_server(origins: &Origins, pid: u32) {
    let words = ["/run/stockade/mcp", "notes", "python3", "notes.py"];
    assert_eq!(executes(origins, pid, Some(AGENT), &words), None);
    assert_eq!(
        executes(origins, pid + 1, Some(pid), &["python3", "notes.py"]),
        None
    );
}

/// Of equal calls each is met once, whatever the agent calls the tool; another tool and other arguments are
/// another call; and the result of a call that is known is no second one.
#[test]
fn a_call_that_a_server_gets_is_the_call_that_the_model_made() {
    let origins = session();
    starts_server(&origins, 20);
    assert_eq!(origins.speaker(process(20)), Speaker::Agent);
    for (seq, event) in [
        (5, asks("a", "mcp__notes__add", "x")),
        (6, asks("b", "notes_add", "x")),
        (7, asks("c", "mcp__notes__list", "y")),
        (8, asks("d", "mcp__notes__add", "z")),
    ] {
        claim(&origins, seq, event, Intent::default()).unwrap();
    }
    for (id, arguments, call) in [("m1", "x", 5), ("m2", "x", 6)] {
        let event = passes(20, id, arguments);
        assert_eq!(admitted(&origins, &event), Admitted::again(call), "{id}");
        origins.repeated(call, &event, Intent::default());
    }
    // By the model's id, although the agent has changed the arguments.
    let named = passes(20, "d", "zz");
    assert_eq!(admitted(&origins, &named), Admitted::again(8));
    for other in [passes(20, "m3", "x"), passes(20, "m4", "y")] {
        assert_eq!(admitted(&origins, &other), Admitted::New);
    }
    let result = came_back(ClaimSource::Mcp, 20, "m1");
    assert_eq!(admitted(&origins, &result), Admitted::again(5));
    let own = returned(AGENT, "a");
    assert_eq!(admitted(&origins, &own), Admitted::New, "it ends the call");
    // Where the server is seen first, the model's call is the same too.
    let early = passes(20, "m5", "early");
    claim(&origins, 11, early, Intent::default()).unwrap();
    let late = asks("e", "mcp__notes__add", "early");
    assert_eq!(admitted(&origins, &late), Admitted::again(11));
    origins.repeated(11, &late, Intent::default());
    let result = came_back(ClaimSource::Mcp, 20, "m5");
    assert_eq!(admitted(&origins, &result), Admitted::again(11));
}

/// What the server does while it is called is for that call, and inferred; what it claims itself, and what
/// somebody in a command claims, is for nobody else.
#[test]
fn nobody_but_the_shim_speaks_for_the_agent_of_a_server() {
    let origins = session();
    starts_server(&origins, 20);
    claim(
        &origins,
        5,
        asks("a", "mcp__notes__add", "x"),
        Intent::default(),
    )
    .unwrap();
    let event = passes(20, "m1", "x");
    assert_eq!(admitted(&origins, &event), Admitted::again(5));
    origins.repeated(5, &event, Intent::default());
    let effect = cause(&origins, 21, "/w/notes.txt").unwrap();
    assert_eq!(
        (effect.call, effect.certainty),
        (Some(5), Certainty::Inferred)
    );
    assert_eq!(
        origins.speaker(process(21)),
        Speaker::Other,
        "the server itself"
    );
    let forged = passes(21, "m2", "x");
    assert_eq!(admitted(&origins, &forged), Admitted::New);
    origins.claimed(6, &forged, intent("make"));
    let bound = executes(&origins, 40, Some(AGENT), &["sh", "-c", "make"]);
    assert!(
        bound.as_ref().is_none_or(|bound| bound.call == 5),
        "{bound:?}"
    );
    // A command that starts the shim tells for itself.
    claim(&origins, 7, called(AGENT, "b"), intent("./lies")).unwrap();
    executes(&origins, 30, Some(AGENT), &["sh", "-c", "./lies"]).unwrap();
    executes(
        &origins,
        31,
        Some(30),
        &["/run/stockade/mcp", "notes", "true"],
    );
    assert_eq!(origins.speaker(process(31)), Speaker::Other);
    assert_eq!(admitted(&origins, &passes(31, "m3", "x")), Admitted::New);
    // So does one that the model asks for in the same words.
    claim(
        &origins,
        8,
        called(AGENT, "c"),
        intent("/run/stockade/mcp x true"),
    )
    .unwrap();
    executes(
        &origins,
        50,
        Some(AGENT),
        &["/run/stockade/mcp", "x", "true"],
    );
    assert_eq!(origins.speaker(process(50)), Speaker::Other);
}
