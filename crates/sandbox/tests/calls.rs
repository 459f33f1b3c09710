//! The table of system calls has its stated effect on each processor.

use std::collections::{BTreeMap, BTreeSet};

use stockade_plan::{
    CALLS, Call, CallAction, CallCondition, CallSet, Debuggers, ORDINARY, Refusals, UNNAMED,
    answer, calls,
};
use stockade_sandbox::call_filter;
use stockade_sys::seccomp::{Action, Processor, name, number};

const STRICT: CallSet = CallSet {
    debuggers: Debuggers::None,
    namespaces: false,
    notify: true,
    root: false,
};

fn sets() -> impl Iterator<Item = CallSet> {
    [Debuggers::None, Debuggers::Own, Debuggers::All]
        .into_iter()
        .flat_map(|debuggers| {
            [false, true].into_iter().flat_map(move |namespaces| {
                [(false, false), (true, false), (true, true)].map(|(notify, root)| CallSet {
                    debuggers,
                    namespaces,
                    notify,
                    root,
                })
            })
        })
}

fn named() -> BTreeSet<&'static str> {
    let ordinary = ORDINARY.iter().flat_map(|family| family.names);
    let special = CALLS.iter().map(|call| &call.name);
    ordinary.chain(special).copied().collect()
}

#[test]
fn every_call_has_its_number() {
    let of = |processor: Processor| -> Vec<&str> {
        let missing = |name: &&str| processor.number(name).is_none();
        named().into_iter().filter(missing).collect()
    };
    assert_eq!(of(Processor::X86_64), Vec::<&str>::new());
    // Calls that arm64 never had exist there under a newer name.
    for (old, new) in [
        ("access", "faccessat"),
        ("alarm", "setitimer"),
        ("dup2", "dup3"),
        ("fork", "clone"),
        ("open", "openat"),
        ("poll", "ppoll"),
        ("stat", "newfstatat"),
    ] {
        assert!(of(Processor::Arm64).contains(&old), "{old}");
        assert!(Processor::Arm64.number(new).is_some(), "{new}");
    }
    for name in of(Processor::Arm64) {
        let old = Processor::X86_64.number(name).expect("it has a number");
        assert!(old < 300, "{name} is new and has one number everywhere");
    }
}

/// An entry is useless after one that always applies to the same call, with the same switches.
#[test]
fn no_entry_is_hidden_by_an_earlier_one() {
    for set in sets() {
        let mut seen: BTreeMap<&str, Vec<CallCondition>> = BTreeMap::new();
        for call in entries(set) {
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

/// Each ordinary call is open at least when all options are on, and is named only once.
#[test]
fn no_ordinary_call_is_closed_by_another_entry() {
    let mut seen = BTreeSet::new();
    let open = |set: CallSet, name: &str| {
        let first = calls(set).find(|call| {
            call.name == name && (call.condition == CallCondition::Always || call.is_ordinary())
        });
        first.is_some_and(|call| call.action == CallAction::Allow)
    };
    for family in ORDINARY {
        assert!(family.why.len() >= 10, "{family:?}");
        for name in family.names {
            assert!(seen.insert(name), "{name} is named twice");
            assert!(sets().any(|set| open(set, name)), "{name} is never open");
        }
    }
}

#[test]
fn every_entry_says_why_and_names_an_argument_that_exists() {
    fn check(call: &Call, condition: &CallCondition) {
        match *condition {
            CallCondition::Always => {}
            CallCondition::AnyBit(argument, mask) | CallCondition::AnyUpperBit(argument, mask) => {
                assert!(argument < 6 && mask != 0, "{call:?}");
            }
            CallCondition::OneOf(argument, values) | CallCondition::NoneOf(argument, values) => {
                assert!(argument < 6 && !values.is_empty(), "{call:?}");
                let distinct: BTreeSet<_> = values.iter().collect();
                assert_eq!(distinct.len(), values.len(), "{call:?}");
            }
            CallCondition::MaskedOneOf(argument, mask, values) => {
                assert!(argument < 6 && !values.is_empty(), "{call:?}");
                assert!(values.iter().all(|value| value & !mask == 0), "{call:?}");
            }
            CallCondition::All(all) => {
                assert!(all.len() > 1, "{call:?}");
                for one in all {
                    check(call, one);
                }
            }
        }
    }
    for call in CALLS {
        assert!(call.why.len() >= 10, "{call:?}");
        check(call, &call.condition);
    }
}

/// The kernel's answer for an action of the table.
fn kernel(action: CallAction) -> Action {
    match action {
        CallAction::Allow => Action::Allow,
        CallAction::Notify => Action::Notify,
        CallAction::NotPermitted => Action::Fail(1),
        CallAction::InvalidArgument => Action::Fail(22),
        CallAction::NoRequest => Action::Fail(25),
        CallAction::NotImplemented => Action::Fail(38),
        CallAction::NoProtocol => Action::Fail(93),
        CallAction::NoFamily => Action::Fail(97),
    }
}

/// Values that some entry compares with, their neighbours, and some unrelated ones.
fn values() -> Vec<u64> {
    fn of(condition: &CallCondition, found: &mut Vec<u64>) {
        let lowest = |mask: u32| mask & mask.wrapping_neg();
        match *condition {
            CallCondition::Always => {}
            CallCondition::AnyBit(_, mask) => found.extend([mask, lowest(mask)].map(u64::from)),
            CallCondition::AnyUpperBit(_, mask) => {
                found.extend([mask, lowest(mask)].map(|half| u64::from(half) << 32));
            }
            CallCondition::OneOf(_, values)
            | CallCondition::NoneOf(_, values)
            | CallCondition::MaskedOneOf(_, _, values) => {
                found.extend(values.iter().copied().map(u64::from));
            }
            CallCondition::All(all) => all.iter().for_each(|one| of(one, found)),
        }
    }
    let mut found = vec![0, 1, 0x8_0003, 0x8_0802, u64::from(u32::MAX), 0x5000_9401];
    for call in CALLS {
        of(&call.condition, &mut found);
    }
    let near = |value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)];
    let all: BTreeSet<u64> = found.into_iter().flat_map(near).collect();
    all.into_iter().collect()
}

#[test]
fn the_program_answers_what_the_table_says() {
    let values = values();
    for set in sets() {
        let filter = call_filter(set).expect("it is short enough");
        for number in (0..600).chain([0x4000_0000, 0x4000_0029, u32::MAX]) {
            let entries: Vec<Call> = calls(set)
                .filter(|call| name(number) == Some(call.name))
                .collect();
            let conditional = entries
                .iter()
                .any(|call| call.condition != CallCondition::Always);
            let firsts = if conditional { &values[..] } else { &[0, 1] };
            for arguments in firsts.iter().flat_map(|value| around(number, *value, set)) {
                let expected = entries
                    .iter()
                    .find(|call| call.condition.applies(arguments))
                    .map_or(UNNAMED, |call| call.action);
                let answered = filter.answer(number, arguments);
                assert_eq!(
                    answered.map(|it| it.action),
                    Some(kernel(expected)),
                    "{set:?} {number} {arguments:x?}"
                );
            }
        }
    }
    // The same by name.
    assert_eq!(answer(STRICT, "read", [0; 6]), CallAction::Allow);
    assert_eq!(answer(STRICT, "no_such_call", [0; 6]), UNNAMED);
}

/// Arguments of which one is `value`. For sockets three arguments decide, so all relevant values of
/// the others are included.
fn around(number: u32, value: u64, set: CallSet) -> Vec<[u64; 6]> {
    // No option changes the entries about sockets.
    let others: &[u64] = if name(number) == Some("socket") && set == STRICT {
        &[0, 1, 2, 3, 10, 16, 17, 0x8_0802]
    } else {
        &[0]
    };
    let upper = 0xABCD_0000_0000_u64;
    others
        .iter()
        .flat_map(|one| others.iter().map(move |other| (*one, *other)))
        .flat_map(|(one, other)| {
            [
                [value, one, other, 0, 0, 0],
                [upper | one, upper | value, other, 0, 0, 0],
                [one, other, value, 0, 0, 0],
            ]
        })
        .collect()
}

/// Unknown calls do not exist: those that are newer than this filter, those of other interfaces,
/// and those that programs can do without.
#[test]
fn what_is_not_named_does_not_exist() {
    let named = named();
    for set in sets() {
        let filter = call_filter(set).expect("it is short enough");
        let closed = |number| {
            let answered = filter.answer(number, [0; 6]).expect("it returns");
            assert_eq!(answered.action, Action::not_implemented(), "{number}");
            assert!(!answered.looked_at_arguments, "{number}");
        };
        (0..2_000)
            .filter(|number| name(*number).is_none_or(|name| !named.contains(name)))
            .for_each(closed);
        // open_tree_attr, file_getattr, file_setattr, and all later ones.
        (467..600).for_each(closed);
    }
}

/// The kernel answers from a bitmap if the arguments cannot matter; otherwise the program is short.
/// The numbers are the present ones: a longer path needs a reason.
#[test]
fn ordinary_calls_are_answered_at_once() {
    let set = CallSet {
        debuggers: Debuggers::Own,
        ..STRICT
    };
    let filter = call_filter(set).expect("it is short enough");
    let conditional: BTreeSet<&str> = CALLS
        .iter()
        .filter(|call| call.condition != CallCondition::Always)
        .map(|call| call.name)
        .collect();
    let mut longest = (0, "");
    for known in named() {
        let Some(number) = number(known) else {
            continue;
        };
        let answered = filter.answer(number, [u64::MAX; 6]).expect("it returns");
        assert_eq!(
            answered.looked_at_arguments,
            conditional.contains(known),
            "{known}"
        );
        longest = longest.max((answered.instructions, known));
    }
    assert!(longest.0 <= 30, "{longest:?}");
    let takes = |known, arguments| {
        let number = number(known).expect("it has a number");
        filter.answer(number, arguments).map(|it| it.instructions)
    };
    for (known, arguments, most) in [
        ("read", [0; 6], 12),
        ("futex", [0; 6], 12),
        ("openat", [0; 6], 16),
        ("fcntl", [0, 1, 0, 0, 0, 0], 18),
        ("ioctl", [0, 0x5401, 0, 0, 0, 0], 24),
    ] {
        let taken = takes(known, arguments);
        assert!(
            taken.is_some_and(|taken| taken <= most),
            "{known}: {taken:?}"
        );
    }
}

/// The entries of [`CALLS`]; the ordinary calls after them cover the rest.
fn entries(set: CallSet) -> Vec<Call> {
    calls(set).filter(|call| !call.is_ordinary()).collect()
}

/// Returns the calls that are closed without options, but not in `set`.
fn opened(set: CallSet) -> Vec<&'static str> {
    let left = entries(set);
    let closed = entries(STRICT).into_iter();
    closed
        .filter(|call| !left.contains(call))
        .map(|call| call.name)
        .collect()
}

#[test]
fn debuggers_of_the_sessions_own_are_judged_where_tracing_begins() {
    let own = CallSet {
        debuggers: Debuggers::Own,
        ..STRICT
    };
    assert_eq!(opened(own), ["ptrace", "process_vm_readv"]);
    for (request, action) in [
        (0, CallAction::Notify),
        (16, CallAction::Notify),
        (0x4206, CallAction::Notify),
        (1, CallAction::Allow),
        (0x4207, CallAction::Allow),
    ] {
        let arguments = [request, 0, 0, 0, 0, 0];
        assert_eq!(answer(own, "ptrace", arguments), action, "{request:#x}");
        let unjudged = CallSet {
            notify: false,
            ..own
        };
        assert_eq!(
            answer(unjudged, "ptrace", arguments),
            CallAction::NotPermitted
        );
    }
}

#[test]
fn an_option_opens_its_own_calls_and_no_others() {
    let strict = entries(STRICT);
    assert_eq!(
        opened(CallSet {
            debuggers: Debuggers::All,
            ..STRICT
        }),
        [
            "personality",
            "perf_event_open",
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
    let owned: Vec<&str> = entries(CallSet {
        root: true,
        ..STRICT
    })
    .iter()
    .filter(|call| !strict.contains(call))
    .map(|call| call.name)
    .collect();
    assert_eq!(owned, ["chown", "lchown", "fchown", "fchownat"]);
    // Calls that the supervisor judges stay that way, whatever else is open.
    let open = entries(CallSet {
        debuggers: Debuggers::All,
        namespaces: true,
        notify: true,
        root: true,
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
    for (at, asked) in CALLS.iter().enumerate() {
        let hidden = CALLS.iter().skip(at).find(|later| {
            later.name == asked.name
                && asked.action == CallAction::Notify
                && later.action != CallAction::Notify
        });
        assert_eq!(hidden.map(|call| call.name), None);
    }
    // Some calls have both, so a wrong order is possible.
    let actions = |name| CALLS.iter().filter(move |call| call.name == name);
    assert_eq!(actions("creat").count(), 2);
}

/// The supervisor refuses a reported call with the table's answer, and with nothing else: if it
/// finds no refusal for a call, it must judge that call.
#[test]
fn what_is_told_is_refused_as_the_table_says() {
    for set in sets() {
        let refusals = Refusals::of(set);
        for call in CALLS {
            for first in [0, 2, 10, 16, 17, 35, 0o4755, 0x5412, 0x1000_0000, u64::MAX] {
                let arguments = [first, 0o4755, 0o4755, 0, 0, 0];
                let alone = CallSet {
                    notify: false,
                    ..set
                };
                let kernel = answer(alone, call.name, arguments);
                let told = refusals
                    .find(call.name, arguments)
                    .map(|entry| entry.action);
                let asked = answer(set, call.name, arguments);
                if let Some(told) = told {
                    assert_eq!(told, kernel, "{call:?} {first}");
                    assert!(told.errno().is_some(), "{call:?}");
                }
                let answered = told.filter(|_| set.notify).map(|_| CallAction::Notify);
                // Without a judge, a process may not trace even its own children.
                let needs_judge = set.debuggers == Debuggers::Own
                    && matches!(call.name, "ptrace" | "process_vm_readv");
                if set.notify && !needs_judge && asked != CallAction::Notify {
                    assert_eq!((asked, answered), (kernel, None), "{call:?} {first}");
                }
            }
        }
    }
}
