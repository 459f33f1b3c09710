//! A row of the table: a real program doing ordinary work, as data.

use std::fmt;

/// How long a row may take by default, in seconds.
const SECONDS: u64 = 120;

/// The kind of program that a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    Git,
    Packages,
    Languages,
    Servers,
    Browsers,
    Debuggers,
    Sandboxes,
    Terminal,
    Shells,
    Agents,
}

impl Group {
    pub(super) const ALL: &[Self] = &[
        Self::Git,
        Self::Packages,
        Self::Languages,
        Self::Servers,
        Self::Browsers,
        Self::Debuggers,
        Self::Sandboxes,
        Self::Terminal,
        Self::Shells,
        Self::Agents,
    ];

    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Packages => "packages",
            Self::Languages => "languages",
            Self::Servers => "servers",
            Self::Browsers => "browsers",
            Self::Debuggers => "debuggers",
            Self::Sandboxes => "sandboxes",
            Self::Terminal => "terminal",
            Self::Shells => "shells",
            Self::Agents => "agents",
        }
    }

    /// Its heading in the document.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Git => "Git",
            Self::Packages => "Package managers",
            Self::Languages => "Languages and their tools",
            Self::Servers => "Servers and databases",
            Self::Browsers => "Browsers",
            Self::Debuggers => "Debuggers, tracers and leak checkers",
            Self::Sandboxes => "Programs with sandboxes of their own",
            Self::Terminal => "Terminal programs",
            Self::Shells => "Shells",
            Self::Agents => "Agents",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A program that a row uses, and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A program of the machine, and the Debian package that contains it.
    System(&'static str, &'static str),
    /// Packages of npm, installed below `~/.local` as people install tools.
    Npm(&'static [&'static str]),
    /// Packages of pip, installed below `~/.local` as people install tools.
    Pip(&'static [&'static str]),
    /// The toolchain that builds this project, at `~/.rustup` and `~/.cargo/bin`.
    Rust,
    /// One of the agents of the tests, below `~/.local`.
    Agent(&'static str),
}

/// One row. The three scripts are for bash, with `set -eu`, and start in the workspace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) group: Group,
    /// Unique, for the command line.
    pub(super) name: &'static str,
    /// The work that is done.
    pub(super) what: &'static str,
    pub(super) needs: &'static [Need],
    /// The owner's preparation, without any boundary.
    pub(super) setup: &'static str,
    /// The work that is tried; it must end with 0.
    pub(super) run: &'static str,
    /// Checks the effect afterwards, without any boundary.
    pub(super) check: &'static str,
    /// Prints the versions of the tried programs, one per line.
    pub(super) versions: &'static str,
    /// Why a question is right here; empty if there must be none.
    pub(super) asked_because: &'static str,
    /// Why it must not work inside, if the boundary closes it on purpose. Its message is then in
    /// `refusal`.
    pub(super) closed_because: &'static str,
    /// The words of the line that a person reads if it is closed.
    pub(super) refusal: &'static str,
    pub(super) seconds: u64,
    /// The preset that ours would choose if the agent were the command itself; empty for the preset
    /// of every command.
    pub(super) profile: &'static str,
}

/// Makes a row with defaults.
pub(super) const fn row(group: Group, name: &'static str, what: &'static str) -> Row {
    Row {
        group,
        name,
        what,
        needs: &[],
        setup: "",
        run: "",
        check: "",
        versions: "",
        asked_because: "",
        closed_because: "",
        refusal: "",
        seconds: SECONDS,
        profile: "",
    }
}

impl Row {
    pub(super) const fn needs(self, needs: &'static [Need]) -> Self {
        Self { needs, ..self }
    }

    pub(super) const fn setup(self, setup: &'static str) -> Self {
        Self { setup, ..self }
    }

    pub(super) const fn run(self, run: &'static str) -> Self {
        Self { run, ..self }
    }

    pub(super) const fn check(self, check: &'static str) -> Self {
        Self { check, ..self }
    }

    pub(super) const fn versions(self, versions: &'static str) -> Self {
        Self { versions, ..self }
    }

    pub(super) const fn asked_because(self, asked_because: &'static str) -> Self {
        Self {
            asked_because,
            ..self
        }
    }

    pub(super) const fn closed_because(self, why: &'static str, refusal: &'static str) -> Self {
        Self {
            closed_because: why,
            refusal,
            ..self
        }
    }

    pub(super) const fn profile(self, profile: &'static str) -> Self {
        Self { profile, ..self }
    }

    pub(super) const fn seconds(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }
}
