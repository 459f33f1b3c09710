//! Steps that remove privileges from the command's process, and the last one, which starts it.

use std::{os::fd::AsFd, path::PathBuf};

use stockade_plan::{
    CallAction, CallCondition, CallSet, Command, PathRule, ResourceLimit, Rights, UNNAMED, calls,
};
use stockade_sys::{
    Outcome, SysError, capability, identity,
    landlock::{self, PathRights},
    process::{self, Limit},
    seccomp::{Action, Condition, Filter, Rule, number},
};

use crate::message::{FromChild, send};

pub(super) fn become_user(uid: u32, gid: u32, drop_groups: bool) -> Outcome<()> {
    if identity::own() == (uid, gid) && !drop_groups {
        return Ok(());
    }
    capability::keep_across_identity(|| identity::become_user(uid, gid))
}

pub(super) fn resource_limit(limit: ResourceLimit, value: u64) -> Outcome<()> {
    let limit = match limit {
        ResourceLimit::OpenFiles => Limit::OpenFiles,
        ResourceLimit::Processes => Limit::Processes,
        ResourceLimit::PendingSignals => Limit::PendingSignals,
        ResourceLimit::Core => Limit::Core,
        ResourceLimit::MessageQueues => Limit::MessageQueues,
    };
    process::limit(limit, value)
}

pub(super) fn drop_capabilities() -> Outcome<()> {
    capability::drop_all()?;
    if capability::effective_is_empty()? {
        return Ok(());
    }
    Err(SysError::new(
        "drop capabilities",
        std::io::Error::other("some are left"),
    ))
}

pub(super) fn restrict_paths(abi: i32, rules: &[PathRule]) -> Outcome<()> {
    let rules: Vec<(PathBuf, PathRights)> = rules
        .iter()
        .map(|rule| {
            let rights = match rule.rights {
                Rights::Read => PathRights::Read,
                Rights::Write => PathRights::Write,
            };
            (rule.path.as_path().to_owned(), rights)
        })
        .collect();
    landlock::restrict(abi, &rules)
}

/// Returns the filter's rules for `set`. Calls that this processor does not have are left out.
pub fn call_rules(set: CallSet) -> Vec<Rule> {
    calls(set)
        .filter_map(|call| {
            number(call.name).map(|number| Rule {
                number,
                condition: condition(&call.condition),
                action: action(call.action),
            })
        })
        .collect()
}

fn condition(condition: &CallCondition) -> Condition {
    match *condition {
        CallCondition::Always => Condition::Always,
        CallCondition::AnyBit(index, mask) => Condition::AnyBit { index, mask },
        CallCondition::AnyUpperBit(index, mask) => Condition::AnyUpperBit { index, mask },
        CallCondition::OneOf(index, values) => Condition::one_of(index, values.to_vec()),
        CallCondition::NoneOf(index, values) => Condition::NoneOf {
            index,
            values: values.to_vec(),
        },
        CallCondition::MaskedOneOf(index, mask, values) => Condition::OneOf {
            index,
            mask,
            values: values.to_vec(),
        },
        CallCondition::All(all) => Condition::All(all.iter().map(self::condition).collect()),
    }
}

const fn action(action: CallAction) -> Action {
    match action {
        CallAction::Allow => Action::Allow,
        CallAction::NotPermitted => Action::not_permitted(),
        CallAction::InvalidArgument => Action::invalid_argument(),
        CallAction::NoRequest => Action::no_request(),
        CallAction::NotImplemented => Action::not_implemented(),
        CallAction::NoProtocol => Action::no_protocol(),
        CallAction::NoFamily => Action::no_family(),
        CallAction::Notify => Action::Notify,
    }
}

/// Returns the filter for `set`.
///
/// # Errors
/// When the program would be longer than the kernel accepts.
pub fn call_filter(set: CallSet) -> Outcome<Filter> {
    Filter::assemble(&call_rules(set), action(UNNAMED))
}

/// Loads the filter; with a notifier, sends its listener to the supervisor at once.
pub(super) fn filter_calls(set: CallSet, control: impl AsFd) -> Outcome<()> {
    let filter = call_filter(set)?;
    if !set.notify {
        return filter.load();
    }
    let listener = filter.load_with_listener()?;
    send(control, &FromChild::Notifier, &[listener.as_fd()])
}

/// Executes the command; returns only on an error.
pub(super) fn execute(command: &Command) -> SysError {
    let program = command.program.to_os();
    let argv: Vec<_> = command
        .argv
        .iter()
        .map(stockade_types::RawText::to_os)
        .collect();
    let environment: Vec<_> = command
        .environment
        .iter()
        .map(|(name, value)| (name.to_os(), value.to_os()))
        .collect();
    if let Err(error) = std::env::set_current_dir(command.cwd.as_path()) {
        return SysError::on("enter", &command.cwd, error);
    }
    if let Err(error) = process::reset_signals() {
        return error;
    }
    match process::execute(&program, &argv, &environment) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}
