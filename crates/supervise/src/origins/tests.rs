//! Scopes without the kernel's help, and what claims can and cannot do.

mod exports;
mod hooks;
mod servers;
mod sources;

use stockade_agents::Intent;
use stockade_event::{Cause, Event, Listed, ModelUsage, Said};
use stockade_types::{
    Access, CallEnd, Certainty, ClaimSource, DecisionId, Digest, ModelApi, ModelProvider,
    PlanChange, ProcessId, RawText, Subject,
};

use super::{Admitted, Bound, Execution, Learned, Origins, SubAgent};

/// The agent, and whoever else, by their process numbers.
const AGENT: u32 = 10;

const fn process(pid: u32) -> ProcessId {
    ProcessId { pid, start: 1 }
}

fn subject(pid: u32) -> Subject {
    Subject {
        id: Some(process(pid)),
        ..Subject::default()
    }
}

/// A session whose command is the agent.
fn session() -> Origins {
    let origins = Origins::new(false);
    assert_eq!(executes(&origins, AGENT, None, &["agent"]), None);
    origins
}

fn executes(origins: &Origins, pid: u32, parent: Option<u32>, argv: &[&str]) -> Option<Bound> {
    let argv: Vec<RawText> = argv.iter().map(|word| RawText::from(*word)).collect();
    origins.executes(&Execution {
        process: process(pid),
        parent: parent.map(process),
        argv: &argv,
        is_agents: argv.first().is_some_and(|name| name.as_bytes() == b"agent"),
    })
}

fn intent(command: &str) -> Intent {
    Intent {
        commands: vec![command.into()],
        ..Intent::default()
    }
}

/// Makes a claim of a process, with number `seq`.
fn claim(origins: &Origins, seq: u64, event: Event, intent: Intent) -> Option<Vec<Bound>> {
    learned(origins, seq, event, intent).map(|learned| learned.scopes)
}

fn learned(origins: &Origins, seq: u64, mut event: Event, intent: Intent) -> Option<Learned> {
    match origins.admits(&mut event, &intent) {
        Admitted::New => Some(origins.claimed(seq, &event, intent)),
        Admitted::Before => None,
        Admitted::Again { claim, .. } => Some(origins.repeated(claim, &event, intent)),
    }
}

fn called(pid: u32, id: &str) -> Event {
    Event::ToolCalled {
        process: subject(pid),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        id: id.into(),
        name: "Bash".into(),
        arguments: None,
    }
}

fn returned(pid: u32, id: &str) -> Event {
    Event::ToolReturned {
        process: subject(pid),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        id: id.into(),
        call: None,
        text: Said::default(),
        is_error: None,
    }
}

fn prompt(pid: u32, text: &str) -> Event {
    Event::PromptSubmitted {
        process: subject(pid),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        aside: false,
        parts: Listed {
            count: 1,
            first: vec![Said {
                bytes: 1,
                digest: Some(Digest::of(text.as_bytes())),
                text: Some(text.into()),
            }],
        },
    }
}

fn changed(pid: u32, path: &str) -> Event {
    Event::FileChanged {
        path: path.into(),
        access: Access::Write,
        by: subject(pid),
        decision: None,
    }
}

fn cause(origins: &Origins, pid: u32, path: &str) -> Option<Cause> {
    origins.of(&changed(pid, path)).1
}

fn is_for(bound: Option<Bound>) -> Option<(u64, Certainty)> {
    bound.map(|bound| (bound.call, bound.certainty))
}

#[test]
fn a_command_is_for_the_call_that_names_it() {
    let origins = session();
    claim(&origins, 5, prompt(AGENT, "do it"), Intent::default()).unwrap();
    claim(&origins, 6, called(AGENT, "a"), intent("make test")).unwrap();
    claim(&origins, 7, called(AGENT, "b"), intent("make")).unwrap();
    let bound = executes(&origins, 20, Some(AGENT), &["bash", "-lc", "make"]);
    assert_eq!(is_for(bound), Some((7, Certainty::Exact)));
    let bound = executes(&origins, 21, Some(AGENT), &["sh", "-c", "make test"]);
    assert_eq!(is_for(bound), Some((6, Certainty::Exact)));
    // What comes of a command belongs to it, and names the prompt too.
    assert_eq!(executes(&origins, 22, Some(20), &["cc", "a.c"]), None);
    let expected = Cause {
        turn: Some(5),
        call: Some(7),
        certainty: Certainty::Exact,
    };
    assert_eq!(cause(&origins, 22, "/w/a.o"), Some(expected));
    // A shell that no call names is the agent's own, while calls for commands are open.
    let own = executes(&origins, 23, Some(AGENT), &["sh", "-c", "ps aux"]);
    assert_eq!(is_for(own), None);
    assert_eq!(cause(&origins, 23, "/w/x").unwrap().call, None);
    // Nothing is for a call that has returned.
    claim(&origins, 9, returned(AGENT, "b"), Intent::default()).unwrap();
    let late = executes(&origins, 24, Some(AGENT), &["bash", "-lc", "make"]);
    assert_eq!(is_for(late), None);
}

#[test]
fn of_two_calls_that_say_the_same_none_is_exact() {
    let origins = session();
    claim(&origins, 6, called(AGENT, "a"), intent("ls")).unwrap();
    claim(&origins, 7, called(AGENT, "b"), intent("ls")).unwrap();
    let first = executes(&origins, 20, Some(AGENT), &["sh", "-c", "ls"]);
    assert_eq!(is_for(first), Some((6, Certainty::Inferred)));
    // The first one can have been the other call's.
    let second = executes(&origins, 21, Some(AGENT), &["sh", "-c", "ls"]);
    assert_eq!(is_for(second), Some((7, Certainty::Inferred)));
}

#[test]
fn a_claim_that_comes_late_finds_its_command() {
    let origins = session();
    assert_eq!(
        executes(&origins, 20, Some(AGENT), &["sh", "-c", "ls"]),
        None
    );
    assert_eq!(
        executes(&origins, 21, Some(AGENT), &["git", "status"]),
        None
    );
    let bound = claim(&origins, 6, called(AGENT, "a"), intent("ls")).unwrap();
    let bound: Vec<_> = bound
        .into_iter()
        .map(|one| (one.number, one.call, one.certainty))
        .collect();
    // Another call that says the same can still come.
    assert_eq!(bound, [(1, 6, Certainty::Inferred)]);
}

#[test]
fn a_program_without_words_is_for_the_only_call_at_most() {
    let origins = session();
    claim(&origins, 6, called(AGENT, "a"), Intent::default()).unwrap();
    let bound = executes(&origins, 20, Some(AGENT), &["rg", "x"]);
    assert_eq!(is_for(bound), Some((6, Certainty::Inferred)));
    claim(&origins, 7, called(AGENT, "b"), Intent::default()).unwrap();
    assert_eq!(executes(&origins, 21, Some(AGENT), &["rg", "x"]), None);
}

/// What a program in a command says of itself is for its own commands at most, whatever ids it takes.
#[test]
fn nobody_inside_a_command_speaks_for_the_agent() {
    let origins = session();
    claim(&origins, 6, called(AGENT, "a"), intent("./lies")).unwrap();
    executes(&origins, 20, Some(AGENT), &["sh", "-c", "./lies"]).unwrap();
    executes(&origins, 21, Some(20), &["./lies"]);
    // The program calls a model by itself, and claims the agent's next command as its own, and the
    // agent's call as returned.
    claim(&origins, 7, called(21, "b"), intent("make")).unwrap();
    claim(&origins, 8, returned(21, "a"), Intent::default()).unwrap();
    claim(&origins, 9, prompt(21, "lies"), Intent::default()).unwrap();
    let agents = executes(&origins, 22, Some(AGENT), &["sh", "-c", "make"]);
    assert_eq!(is_for(agents), None);
    let again = executes(&origins, 23, Some(AGENT), &["sh", "-c", "./lies"]);
    assert_eq!(
        is_for(again),
        Some((6, Certainty::Exact)),
        "it is still open"
    );
    // Its own commands are for its own calls; and those without one for the call outside.
    let own = executes(&origins, 24, Some(21), &["sh", "-c", "make"]);
    assert_eq!(is_for(own), Some((7, Certainty::Exact)));
    assert_eq!(cause(&origins, 20, "/w/x").unwrap().call, Some(6));
}

#[test]
fn what_the_agent_writes_itself_is_for_the_call_that_names_the_file() {
    let origins = session();
    let named = Intent {
        paths: vec!["src/a.rs".into(), "/w/b.rs".into()],
        ..Intent::default()
    };
    claim(&origins, 5, prompt(AGENT, "do it"), Intent::default()).unwrap();
    claim(&origins, 6, called(AGENT, "a"), named).unwrap();
    for (path, call, certainty) in [
        ("/w/src/a.rs", Some(6), Certainty::Exact),
        ("/w/b.rs", Some(6), Certainty::Exact),
        ("/w/b.rs.tmp.1", Some(6), Certainty::Inferred),
        ("/w/.b.rs.swp", Some(6), Certainty::Inferred),
        ("/w/c.rs", None, Certainty::Inferred),
        ("/w/xsrc/a.rs", None, Certainty::Inferred),
    ] {
        let found = cause(&origins, AGENT, path).unwrap();
        assert_eq!((found.call, found.certainty), (call, certainty), "{path}");
        assert_eq!(found.turn, Some(5));
    }
}

#[test]
fn what_is_sent_again_is_said_once() {
    let origins = session();
    assert!(claim(&origins, 5, prompt(AGENT, "do it"), Intent::default()).is_some());
    assert!(claim(&origins, 6, prompt(AGENT, "do it"), Intent::default()).is_none());
    assert!(claim(&origins, 7, called(AGENT, "a"), intent("ls")).is_some());
    assert!(claim(&origins, 8, returned(AGENT, "a"), Intent::default()).is_some());
    assert!(claim(&origins, 9, returned(AGENT, "a"), Intent::default()).is_none());
    // An id without a call is said too, and is nobody's.
    let mut unknown = returned(AGENT, "never");
    let admitted = origins.admits(&mut unknown, &Intent::default());
    assert_eq!(admitted, Admitted::New);
    assert!(matches!(unknown, Event::ToolReturned { call: None, .. }));
}

/// Whatever a program claims, what is remembered stays bounded.
#[test]
fn a_flood_of_claims_is_bounded() {
    let origins = session();
    for seq in 0..20_000 {
        let id = format!("id-{seq}");
        claim(&origins, seq, called(AGENT, &id), intent("ls"));
        claim(&origins, seq, prompt(AGENT, &id), Intent::default());
        claim(&origins, seq, returned(AGENT, "nobody"), Intent::default());
    }
    let state = super::lock(&origins.state);
    let region = state.regions.get(&0).unwrap();
    assert!(region.remembered() < 4_000, "{}", region.remembered());
}

fn findings(origins: &Origins) -> Vec<String> {
    let findings = origins.findings().into_iter();
    findings.map(|event| event.line()).collect()
}

#[test]
fn what_was_said_and_not_done_is_a_finding_and_the_other_way_round() {
    let origins = session();
    claim(&origins, 6, called(AGENT, "a"), intent("make")).unwrap();
    executes(&origins, 20, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    claim(&origins, 7, returned(AGENT, "a"), Intent::default()).unwrap();
    assert_eq!(findings(&origins), [""; 0], "what is said is done");
    claim(&origins, 8, called(AGENT, "b"), intent("make test")).unwrap();
    claim(&origins, 9, returned(AGENT, "b"), Intent::default()).unwrap();
    let [nothing] = findings(&origins).try_into().unwrap();
    assert!(
        nothing.contains("`make test`; seen: no process"),
        "{nothing}"
    );
    // A change that a call names is none; one that nothing names is, once.
    let reads = || Intent {
        paths: vec!["src/a.rs".into()],
        ..Intent::default()
    };
    claim(&origins, 10, called(AGENT, "c"), reads()).unwrap();
    for path in ["/w/src/a.rs", "/w/src/b.rs", "/w/src/b.rs"] {
        cause(&origins, AGENT, path);
    }
    let [unsaid] = findings(&origins).try_into().unwrap();
    assert!(unsaid.contains("/w/src/b.rs"), "{unsaid}");
    // What runs for a call that names a file changes another one.
    let bound = executes(&origins, 21, Some(AGENT), &["rg", "x"]);
    assert_eq!(is_for(bound), Some((10, Certainty::Inferred)));
    cause(&origins, 21, "/w/src/a.rs");
    assert_eq!(findings(&origins), [""; 0]);
    cause(&origins, 21, "/w/src/c.rs");
    let [more] = findings(&origins).try_into().unwrap();
    assert!(more.contains("src/a.rs; seen: file.changed"), "{more}");
}

#[test]
fn a_call_says_why_it_was_made() {
    let origins = session();
    let says = Intent {
        says: Some("Installing; key ghp_0123456789abcdefghijABCDEFGHIJ012345".into()),
        ..intent("make")
    };
    claim(&origins, 6, called(AGENT, "a"), says).unwrap();
    executes(&origins, 20, Some(AGENT), &["sh", "-c", "make"]).unwrap();
    executes(&origins, 21, Some(20), &["cc"]);
    let said = origins.says(process(21)).unwrap();
    assert!(
        said.starts_with("Installing; key [") && !said.contains("ghp_0123"),
        "{said}"
    );
    assert_eq!(origins.says(process(AGENT)), None);
}

/// Makes the end of a request in which a model asked for so many tool calls.
fn answered(request: u64, calls: u64) -> Event {
    Event::ModelCalled {
        process: subject(AGENT),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(request)),
        host: "model.test".to_owned(),
        port: 443,
        provider: ModelProvider::OpenAi,
        api: ModelApi::Responses,
        model_asked: None,
        model: None,
        response_id: None,
        status: Some(200),
        streaming: true,
        usage: ModelUsage::default(),
        finish: None,
        error: None,
        hosted_declared: Vec::new(),
        hosted_used: Vec::new(),
        functions: Listed::default(),
        prompts: Listed::default(),
        results: Listed::default(),
        calls: Listed {
            count: calls,
            first: Vec::new(),
        },
        said: None,
        bytes_out: 1,
        bytes_in: 1,
        duration_ms: 1,
        first_byte_ms: None,
        ended: CallEnd::Whole,
        unread: None,
    }
}

/// Says what another agent, or a model, is told.
fn told(text: &str) -> Intent {
    Intent {
        prompts: vec![Digest::of(text.as_bytes())],
        ..Intent::default()
    }
}

/// Makes a claim one of another request.
fn by(request: u64, mut event: Event) -> Event {
    if let Event::PromptSubmitted { decision, .. }
    | Event::ToolCalled { decision, .. }
    | Event::ToolReturned { decision, .. } = &mut event
    {
        *decision = Some(DecisionId::new(request));
    }
    event
}

/// A sub-agent's calls are of the call that started it, also where its conversation goes on between
/// those of the agent; the agent's turn stays its own.
#[test]
fn what_a_sub_agent_says_is_of_the_call_that_started_it() {
    let origins = session();
    let cause = |event: &Event| origins.of(event).1.map(|cause| (cause.turn, cause.call));
    claim(&origins, 5, by(1, prompt(AGENT, "do it")), told("do it")).unwrap();
    claim(&origins, 6, by(1, called(AGENT, "a")), told("a part")).unwrap();
    claim(&origins, 7, by(1, called(AGENT, "b")), intent("make")).unwrap();
    let sub = by(2, prompt(AGENT, "a part"));
    let learned = learned(&origins, 8, sub.clone(), told("a part")).unwrap();
    let started = SubAgent::Started { call: 6, prompt: 8 };
    assert_eq!(learned.sub_agent, Some(started));
    let its = by(2, called(AGENT, "c"));
    claim(&origins, 9, its.clone(), intent("cc a.c")).unwrap();
    assert_eq!(cause(&its), Some((Some(8), Some(6))));
    let bound = executes(&origins, 20, Some(AGENT), &["sh", "-c", "cc a.c"]);
    assert_eq!(is_for(bound), Some((9, Certainty::Exact)));
    let effect = origins.of(&changed(20, "/w/a.o")).1.unwrap();
    assert_eq!((effect.turn, effect.call), (Some(8), Some(9)));
    // It goes on with the result of its own call, and so does the agent.
    claim(&origins, 10, by(3, returned(AGENT, "c")), Intent::default()).unwrap();
    let next = by(3, called(AGENT, "d"));
    claim(&origins, 11, next.clone(), intent("ld")).unwrap();
    assert_eq!(cause(&next), Some((Some(8), Some(6))));
    claim(&origins, 12, by(4, returned(AGENT, "b")), Intent::default()).unwrap();
    let agents = by(4, called(AGENT, "e"));
    claim(&origins, 13, agents.clone(), intent("ls")).unwrap();
    assert_eq!(cause(&agents), Some((Some(5), None)));
    // A request that is made again is of the same conversation, although nothing in it is new.
    assert!(claim(&origins, 14, by(5, returned(AGENT, "c")), Intent::default()).is_none());
    assert_eq!(cause(&by(5, called(AGENT, "f"))), Some((Some(8), Some(6))));
}

/// A change of a plan is told for the call that makes it; an id that no open call has gives it none.
#[test]
fn a_plan_belongs_to_the_call_that_changes_it() {
    let origins = session();
    claim(&origins, 5, prompt(AGENT, "do it"), Intent::default());
    claim(&origins, 6, called(AGENT, "same"), Intent::default());
    claim(&origins, 7, called(AGENT, "same"), Intent::default());
    let plan = |id: &str| {
        let mut event = Event::PlanChanged {
            process: subject(AGENT),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            id: id.into(),
            // What is claimed of it counts for nothing.
            call: Some(6),
            change: PlanChange::Replaced,
            steps: Listed::default(),
        };
        let admitted = origins.admits(&mut event, &Intent::default());
        assert_eq!(admitted, Admitted::New);
        let Event::PlanChanged { call, .. } = &event else {
            panic!("it is a change of a plan")
        };
        (*call, origins.of(&event).1)
    };
    // Ids can collide: it is told with the last call of its name, right after it.
    let (call, cause) = plan("same");
    assert_eq!(call, Some(7));
    let cause = cause.unwrap();
    assert_eq!((cause.turn, cause.call), (Some(5), Some(7)));
    let (call, cause) = plan("never");
    assert_eq!((call, cause.unwrap().call), (None, None));
}

/// Some agents have the result of the call at once, and the sub-agent begins later; what a person says
/// after its end is the person's, also in the same words.
#[test]
fn a_sub_agent_can_begin_after_its_call_has_returned() {
    let origins = session();
    let cause = |event: &Event| origins.of(event).1.map(|cause| (cause.turn, cause.call));
    claim(&origins, 5, by(1, prompt(AGENT, "do it")), told("do it")).unwrap();
    claim(&origins, 6, by(1, called(AGENT, "a")), told("a part")).unwrap();
    claim(&origins, 7, by(2, returned(AGENT, "a")), Intent::default()).unwrap();
    let sub = by(3, prompt(AGENT, "a part"));
    let begun = learned(&origins, 8, sub.clone(), told("a part")).unwrap();
    let started = SubAgent::Started { call: 6, prompt: 8 };
    assert_eq!(begun.sub_agent, Some(started));
    let its = by(3, called(AGENT, "c"));
    claim(&origins, 9, its.clone(), intent("cc a.c")).unwrap();
    assert_eq!(cause(&its), Some((Some(8), Some(6))));
    let done = |request| answered(request, 0);
    let ended = learned(&origins, 10, done(3), Intent::default()).unwrap();
    assert_eq!(ended.sub_agent, Some(SubAgent::Ended { call: 6 }));
    let persons = by(4, prompt(AGENT, "a part"));
    let told = learned(&origins, 11, persons.clone(), told("a part")).unwrap();
    assert_eq!(told.sub_agent, None);
    assert_eq!(cause(&persons), Some((Some(11), None)));
}
