//! A kernel without a feature, for one thread and the programs that it starts.
//!
//! The machine does not change: a system call filter on a thread of the test gives the answer of a
//! kernel without the feature, and every program started from there inherits it.

use stockade_sys::{
    capability,
    seccomp::{Action, Condition, Filter, Rule, number},
};

/// `landlock_create_ruleset`; recent calls have the same number on all processors.
const LANDLOCK_CREATE_RULESET: u32 = 444;
/// `seccomp`.
#[cfg(target_arch = "x86_64")]
const SECCOMP: u32 = 317;
#[cfg(not(target_arch = "x86_64"))]
const SECCOMP: u32 = 277;
/// `SECCOMP_SET_MODE_FILTER` (linux/seccomp.h).
const SET_MODE_FILTER: u32 = 1;
/// `NETLINK_NETFILTER` (linux/netlink.h).
const NETLINK_NETFILTER: u32 = 12;

/// A feature of the kernel that sessions need or use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Landlock: not built into the kernel.
    Landlock,
    /// Namespaces: forbidden, as in a container with the usual profile.
    Namespaces,
    /// System call filters: not built into the kernel.
    Filters,
    /// nf_tables: no module for it.
    Redirect,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 4] = [
        Self::Landlock,
        Self::Namespaces,
        Self::Filters,
        Self::Redirect,
    ];

    fn rule(self) -> Rule {
        let named = |name| number(name).expect("filters know the call");
        match self {
            Self::Landlock => Rule {
                number: LANDLOCK_CREATE_RULESET,
                condition: Condition::Always,
                action: Action::not_implemented(),
            },
            Self::Namespaces => Rule {
                number: named("unshare"),
                condition: Condition::Always,
                action: Action::not_permitted(),
            },
            Self::Filters => Rule {
                number: SECCOMP,
                condition: Condition::one_of(0, vec![SET_MODE_FILTER]),
                action: Action::not_implemented(),
            },
            Self::Redirect => Rule {
                number: named("socket"),
                condition: Condition::one_of(2, vec![NETLINK_NETFILTER]),
                action: Action::Fail(93), // EPROTONOSUPPORT
            },
        }
    }
}

/// Returns the number of a system call that filters know, on this processor.
pub fn call_number(name: &str) -> Option<u32> {
    number(name)
}

/// Runs `body` on a thread for which the kernel has no `feature`; the programs that it starts lack
/// it too, and cannot gain privileges by execution.
pub fn without<T: Send>(feature: Feature, body: impl FnOnce() -> T + Send) -> T {
    let confined = || {
        capability::set_no_new_privileges().expect("a thread may give up privileges");
        let filter = Filter::assemble(&[feature.rule()], Action::Allow)
            .expect("one rule is a short program");
        filter
            .load()
            .expect("a thread without privileges may filter its own calls");
        body()
    };
    std::thread::scope(|scope| {
        scope
            .spawn(confined)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::{Feature, without};
    use crate::Run;

    #[test]
    fn only_what_the_thread_starts_lacks_the_feature() {
        let unshare = || {
            Run::new("/usr/bin/unshare")
                .args(["--user", "/bin/true"])
                .output()
        };
        unshare().assert_success();
        without(Feature::Namespaces, unshare)
            .assert_code(1)
            .assert_stderr("Operation not permitted");
        without(Feature::Landlock, unshare).assert_success();
        unshare().assert_success();
    }
}
