//! The system call filter as data: what is open, what is closed and why, and what the supervisor is
//! asked about. A call that nothing here names does not exist inside.

mod ordinary;
mod requests;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use ordinary::{Family, ORDINARY};
pub use stockade_policy::Debuggers;
pub use table::CALLS;

/// Which variant of the filter a session loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSet {
    /// Whom debuggers may trace; `Own` needs `notify`, since each new tracing is judged.
    pub debuggers: Debuggers,
    /// New namespaces can be made; mounts stay closed in them.
    pub namespaces: bool,
    /// The supervisor is asked about executions and file changes, and told of refusals.
    pub notify: bool,
    /// The command is root, to whom other users do not exist inside: with `notify`, the supervisor
    /// is asked about changes of owners.
    pub root: bool,
}

/// When an entry applies; the halves compared are the lower 32 bits of the argument, unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallCondition {
    /// Always.
    Always,
    /// Argument has one of the bits.
    AnyBit(u8, u32),
    /// Argument has one of the bits in its upper half.
    AnyUpperBit(u8, u32),
    /// Argument is one of the values.
    OneOf(u8, &'static [u32]),
    /// Argument is none of the values.
    NoneOf(u8, &'static [u32]),
    /// The bits of the mask are one of the values.
    MaskedOneOf(u8, u32, &'static [u32]),
    /// Each of these applies.
    All(&'static [CallCondition]),
}

impl CallCondition {
    /// Tells whether it applies to a call with these arguments.
    pub fn applies(&self, arguments: [u64; 6]) -> bool {
        let whole = |index: u8| arguments.get(usize::from(index)).copied().unwrap_or(0);
        let argument = |index: u8| u32::try_from(whole(index) & u64::from(u32::MAX)).unwrap_or(0);
        match *self {
            Self::Always => true,
            Self::AnyBit(index, mask) => argument(index) & mask != 0,
            Self::AnyUpperBit(index, mask) => whole(index) >> 32 & u64::from(mask) != 0,
            Self::OneOf(index, values) => values.contains(&argument(index)),
            Self::NoneOf(index, values) => !values.contains(&argument(index)),
            Self::MaskedOneOf(index, mask, values) => values.contains(&(argument(index) & mask)),
            Self::All(conditions) => conditions.iter().all(|one| one.applies(arguments)),
        }
    }
}

/// What happens to a call that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAction {
    /// The kernel does it.
    Allow,
    /// "Operation not permitted".
    NotPermitted,
    /// "Invalid argument": as on a kernel that lacks the option.
    InvalidArgument,
    /// "Inappropriate ioctl for device": as on a file that lacks the request.
    NoRequest,
    /// "Function not implemented": callers fall back to something else.
    NotImplemented,
    /// "Protocol not supported".
    NoProtocol,
    /// "Address family not supported".
    NoFamily,
    /// The supervisor decides.
    Notify,
}

impl CallAction {
    /// Returns the error number that the caller gets; `None` where it depends on somebody.
    pub const fn errno(self) -> Option<i32> {
        match self {
            Self::Allow | Self::Notify => None,
            Self::NotPermitted => Some(1),
            Self::InvalidArgument => Some(22),
            Self::NoRequest => Some(25),
            Self::NotImplemented => Some(38),
            Self::NoProtocol => Some(93),
            Self::NoFamily => Some(97),
        }
    }
}

/// What happens to a call that no entry names: as on a kernel that lacks it.
pub const UNNAMED: CallAction = CallAction::NotImplemented;

/// Which option of [`CallSet`] switches an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Always,
    /// Unless debuggers may trace everybody.
    UnlessAllTraced,
    /// Where nobody may be traced, or nobody can judge it.
    IfNoneTraced,
    /// Where each new tracing is judged.
    IfOwnTraced,
    UnlessNamespaces,
    IfNotify,
    IfRoot,
    /// On for every set, behind all others.
    Ordinary,
}

/// One entry; the first that applies decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// System call.
    pub name: &'static str,
    /// When.
    pub condition: CallCondition,
    /// What.
    pub action: CallAction,
    /// Why.
    pub why: &'static str,
    switch: Switch,
}

impl Call {
    /// Tells whether it is of [`ORDINARY`], and so only counts where no entry of [`CALLS`] applies.
    pub const fn is_ordinary(&self) -> bool {
        matches!(self.switch, Switch::Ordinary)
    }

    /// Whether the supervisor is told of the refusal, and gives the answer of the entry. Those that
    /// programs make often and go on without are answered by the filter alone.
    pub const fn is_told(&self) -> bool {
        match self.action {
            CallAction::NotPermitted | CallAction::NoProtocol | CallAction::NoFamily => true,
            CallAction::Allow
            | CallAction::InvalidArgument
            | CallAction::NoRequest
            | CallAction::NotImplemented
            | CallAction::Notify => false,
        }
    }

    /// Tells whether it keeps namespaces from being made.
    pub const fn makes_namespaces(&self) -> bool {
        matches!(self.switch, Switch::UnlessNamespaces)
    }

    /// Returns the setting of a policy that opens the call, where one does.
    pub const fn opened_by(&self) -> Option<&'static str> {
        match self.switch {
            Switch::UnlessAllTraced => Some("process.debuggers = \"all\""),
            Switch::IfNoneTraced => Some("process.debuggers = \"own\""),
            Switch::UnlessNamespaces => Some("process.namespaces = true"),
            Switch::Always
            | Switch::IfNotify
            | Switch::IfOwnTraced
            | Switch::IfRoot
            | Switch::Ordinary => None,
        }
    }
}

/// Returns the entries that `set` switches on; to a call that none of them applies to happens
/// [`UNNAMED`]. With `notify`, a refusal that the supervisor is told of is its to give.
pub fn calls(set: CallSet) -> impl Iterator<Item = Call> {
    let special = special(set).map(move |call| {
        let action = if set.notify && call.is_told() {
            CallAction::Notify
        } else {
            call.action
        };
        Call { action, ..call }
    });
    let ordinary = ORDINARY.iter().flat_map(|family| {
        family.names.iter().map(|name| {
            table::call(
                name,
                CallCondition::Always,
                CallAction::Allow,
                Switch::Ordinary,
                family.why,
            )
        })
    });
    special.chain(ordinary)
}

fn special(set: CallSet) -> impl Iterator<Item = Call> {
    CALLS.iter().copied().filter(move |call| match call.switch {
        Switch::Always | Switch::Ordinary => true,
        Switch::UnlessAllTraced => set.debuggers != Debuggers::All,
        Switch::IfNoneTraced => match set.debuggers {
            Debuggers::None => true,
            Debuggers::Own => !set.notify,
            Debuggers::All => false,
        },
        Switch::IfOwnTraced => set.debuggers == Debuggers::Own && set.notify,
        Switch::UnlessNamespaces => !set.namespaces,
        Switch::IfNotify => set.notify,
        Switch::IfRoot => set.notify && set.root,
    })
}

/// Returns what happens to a call of `name` with these arguments, by reading the entries one by one.
pub fn answer(set: CallSet, name: &str, arguments: [u64; 6]) -> CallAction {
    calls(set)
        .find(|call| call.name == name && call.condition.applies(arguments))
        .map_or(UNNAMED, |call| call.action)
}

/// What of a [`CallSet`] the supervisor answers with a refusal.
#[derive(Clone, Debug)]
pub struct Refusals(BTreeMap<&'static str, Vec<Call>>);

impl Refusals {
    /// Takes the entries of the calls that `set` can tell a refusal of.
    pub fn of(set: CallSet) -> Self {
        let mut all: BTreeMap<&'static str, Vec<Call>> = BTreeMap::new();
        for call in special(set) {
            all.entry(call.name).or_default().push(call);
        }
        all.retain(|_, calls| calls.iter().any(Call::is_told));
        Self(all)
    }

    /// Returns the entry that refuses a call; `None` where none does.
    pub fn find(&self, name: &str, arguments: [u64; 6]) -> Option<&Call> {
        let mut entries = self.0.get(name)?.iter();
        entries
            .find(|call| call.condition.applies(arguments))
            .filter(|call| call.is_told())
    }
}
