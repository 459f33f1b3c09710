//! The table of system calls means on this processor what it says.
use std::collections::BTreeMap;

use stockade_plan::{CALLS, Call, CallAction, CallCondition, CallSet, calls};
use stockade_sys::seccomp::{name, number};

const STRICT: CallSet = CallSet {
    debuggers: false,
    namespaces: false,
    notify: true,
};

#[test]
fn every_call_has_a_number_and_the_number_its_name() {
    let mut missing = Vec::new();
    for call in CALLS {
        // Other processors never had the older calls, so their filters leave them out.
        let Some(found) = number(call.name) else {
            missing.push(call.name);
            continue;
        };
        assert_eq!(name(found), Some(call.name));
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(missing, Vec::<&str>::new());
    }
    assert_eq!(number("no_such_call"), None);
}

/// An entry after one that always applies to the same call, with the same switches, never counts.
#[test]
fn no_entry_is_hidden_by_an_earlier_one() {
    let sets = [false, true].into_iter().flat_map(|debuggers| {
        [false, true].into_iter().flat_map(move |namespaces| {
            [false, true].map(|notify| CallSet {
                debuggers,
                namespaces,
                notify,
            })
        })
    });
    for set in sets {
        let mut seen: BTreeMap<&str, Vec<CallCondition>> = BTreeMap::new();
        for call in calls(set) {
            let earlier = seen.entry(call.name).or_default();
            assert!(
                !earlier.contains(&CallCondition::Always),
                "{call:?} is never reached"
            );
            assert!(
                !earlier.contains(&call.condition),
                "{call:?} is there twice"
            );
            earlier.push(call.condition);
        }
    }
}

#[test]
fn every_entry_says_why_and_names_an_argument_that_exists() {
    for call in CALLS {
        assert!(call.why.len() >= 10, "{call:?}");
        match call.condition {
            CallCondition::Always => {}
            CallCondition::AnyBit(argument, mask) => assert!(argument < 6 && mask != 0, "{call:?}"),
            CallCondition::OneOf(argument, values) | CallCondition::NoneOf(argument, values) => {
                assert!(argument < 6 && !values.is_empty(), "{call:?}");
            }
        }
    }
}

fn entries(set: CallSet) -> Vec<&'static Call> {
    calls(set).collect()
}

#[test]
fn an_option_opens_its_own_calls_and_no_others() {
    let strict = entries(STRICT);
    let opened = |set: CallSet| -> Vec<&str> {
        let left = entries(set);
        strict
            .iter()
            .filter(|call| !left.contains(call))
            .map(|call| call.name)
            .collect()
    };
    assert_eq!(
        opened(CallSet {
            debuggers: true,
            ..STRICT
        }),
        [
            "personality",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "kcmp"
        ]
    );
    let namespaces = opened(CallSet {
        namespaces: true,
        ..STRICT
    });
    assert_eq!(namespaces, ["clone", "clone3", "unshare"]);
    let quiet = opened(CallSet {
        notify: false,
        ..STRICT
    });
    let asked = strict
        .iter()
        .filter(|call| call.action == CallAction::Notify);
    assert_eq!(quiet, asked.map(|call| call.name).collect::<Vec<_>>());
    // What is asked about stays asked about, whatever else is opened.
    let open = entries(CallSet {
        debuggers: true,
        namespaces: true,
        notify: true,
    });
    for name in ["execve", "execveat", "openat", "renameat2", "unlinkat"] {
        assert!(
            open.iter()
                .any(|c| c.name == name && c.action == CallAction::Notify),
            "{name}"
        );
    }
}

#[test]
fn denials_stand_before_what_is_asked() {
    let strict = entries(STRICT);
    for (at, asked) in strict.iter().enumerate() {
        let hidden = strict.iter().skip(at).find(|later| {
            later.name == asked.name
                && asked.action == CallAction::Notify
                && later.action != CallAction::Notify
        });
        assert_eq!(hidden.map(|call| call.name), None);
    }
    // Some calls have both, so there is something to be in the wrong order.
    let actions = |name| strict.iter().filter(move |call| call.name == name);
    assert_eq!(actions("creat").count(), 2);
}
