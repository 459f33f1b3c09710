//! Both halves refuse a plan that states more about its boundary than its steps make.

use std::process::Stdio;

use stockade_plan::{
    Boundary, Command, Identity, Interfaces, LaunchPlan, Life, PLAN_VERSION, Protection, Root,
};
use stockade_sys::fd;
use stockade_types::{AbsPath, SessionId, Tier};

use crate::{LaunchError, StandardStreams, child::read_plan, launch, spawn};

/// A plan without steps, whose boundary needs none.
fn empty() -> LaunchPlan {
    LaunchPlan {
        version: PLAN_VERSION,
        session: SessionId::from_random(1),
        tier: Tier::Native,
        boundary: Boundary {
            root: Root::Host,
            interfaces: Interfaces::Host,
            life: Life::Unbound,
            protection: Protection::Calls,
        },
        identity: Identity { uid: 1, gid: 1 },
        command: Command {
            program: "/bin/true".into(),
            argv: Vec::new(),
            environment: Vec::new(),
            cwd: AbsPath::new("/").unwrap(),
        },
        steps: Vec::new(),
        guarantees: Vec::new(),
        notes: Vec::new(),
        fault: None,
    }
}

/// Plans that state properties that no step makes.
fn unfounded() -> [LaunchPlan; 4] {
    let states = |boundary| LaunchPlan {
        boundary,
        ..empty()
    };
    let none = empty().boundary;
    [
        states(Boundary {
            root: Root::Private,
            ..none
        }),
        states(Boundary {
            interfaces: Interfaces::Own,
            ..none
        }),
        states(Boundary {
            life: Life::FirstProcess,
            ..none
        }),
        states(Boundary {
            protection: Protection::Mounts,
            ..none
        }),
    ]
}

/// Reads a plan as the first process does: from sealed memory, by its digest.
fn read(plan: &LaunchPlan) -> Result<LaunchPlan, String> {
    let (bytes, digest) = plan.seal().unwrap();
    let memory = fd::sealed_memory("plan", &bytes).unwrap();
    read_plan(memory, digest).map_err(|error| stockade_types::chain(&error))
}

#[test]
fn the_first_process_reads_no_plan_that_is_not_what_it_says() {
    assert_eq!(read(&empty()).unwrap(), empty());
    for plan in unfounded() {
        let refused = read(&plan).unwrap_err();
        assert!(refused.contains("the plan states"), "{refused}");
    }
    let older = LaunchPlan {
        version: PLAN_VERSION - 1,
        ..empty()
    };
    assert!(read(&older).unwrap_err().contains("another version"));
}

#[test]
fn the_supervisor_launches_nothing_that_is_not_what_it_says_or_cannot_be_ended() {
    let launch = |plan: &LaunchPlan| {
        let streams = StandardStreams {
            stdin: Stdio::null(),
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        };
        launch(spawn(streams).unwrap(), plan).map(drop).unwrap_err()
    };
    for plan in unfounded() {
        let refused = launch(&plan);
        assert!(matches!(refused, LaunchError::Unfounded(_)), "{refused:?}");
    }
    let refused = launch(&empty());
    assert!(
        matches!(refused, LaunchError::Endless(Tier::Native)),
        "{refused:?}"
    );
}
