//! The table of everything that is measured, and what is needed of it.

use std::time::Duration;

use super::{
    busy::Load,
    client::Exchange,
    contender::{Contender, Writes},
    crowd::Asked,
    ground::Ground,
    records::Question,
    story::Form,
    workload::Inside,
};

/// One row of the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowPlan {
    /// What `--rows` calls it.
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) load: Load,
    pub(super) work: Work,
    pub(super) pace: Pace,
    pub(super) bounds: &'static [Bound],
}

/// What is done for one sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Start(Ground),
    StartCpu,
    Inside(Inside),
    Memory,
    Crowd(Asked),
    Network(Exchange),
    Terminal,
    Archive(Question),
    Story(Form),
    TreeRecord,
    AgentRecord,
    Decide { rules: u32, cedar: u32 },
    Crates,
    Build,
}

/// How many samples, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As many as were asked for.
    Usual,
    /// Three: each takes seconds or is a median itself.
    Few,
    /// One: it takes minutes or is the same each time.
    Once,
}

/// What is needed of our median.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    /// At most so many times that of another contender.
    Times(f64, &'static str),
    /// At least so many times that of another contender.
    AtLeast(f64, &'static str),
    /// At most so much more than bare.
    Added(f64),
    /// At most so much.
    Most(f64),
    /// At most so many times ours of another row.
    TimesRow(f64, &'static str),
}

impl Pace {
    pub(super) fn runs(self, usual: u16) -> usize {
        match self {
            Self::Usual => usual.into(),
            Self::Few => 3,
            Self::Once => 1,
        }
    }

    pub(super) const fn warm_up(self) -> usize {
        match self {
            Self::Usual => 2,
            Self::Few | Self::Once => 0,
        }
    }

    /// After it a row begins no further round.
    pub(super) const fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Usual => 16,
            Self::Few | Self::Once => 24,
        })
    }
}

impl Work {
    /// Tells whether a contender can do it at all.
    pub(super) fn takes(self, contender: &Contender) -> bool {
        let is_ours = matches!(contender, Contender::Stockade { .. });
        let is_bare = matches!(contender, Contender::Bare);
        match self {
            Self::Start(_) | Self::StartCpu | Self::Inside(_) | Self::Memory => true,
            // A hundred of it need more memory than machines of developers have free.
            Self::Crowd(_) => !matches!(contender, Contender::SandboxRuntime { .. }),
            // Of the first ones both sides of a ratio are in one session.
            Self::Network(Exchange::Turns | Exchange::Flood)
            | Self::Archive(_)
            | Self::Story(_)
            | Self::TreeRecord
            | Self::AgentRecord
            | Self::Decide { .. }
            | Self::Crates
            | Self::Build => is_ours,
            Self::Network(_) | Self::Terminal => is_ours || is_bare,
        }
    }

    /// Tells whether it is measured only if it is asked for by name.
    pub(super) const fn is_on_request(self) -> bool {
        matches!(self, Self::Build)
    }
}

const fn inside(ground: Ground, writes: Writes, line: &'static str) -> Inside {
    Inside {
        ground,
        before: ":",
        line,
        after: ":",
        writes,
    }
}

const SPAWNS: Work = Work::Inside(inside(
    Ground::Empty,
    Writes::Nothing,
    "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done",
));
const STATUS: Work = Work::Inside(inside(
    Ground::Repository,
    Writes::Nothing,
    "i=0; while [ $i -lt 40 ]; do git status --porcelain || exit 9; i=$((i+1)); done",
));
const COMMITS: Work = Work::Inside(inside(
    Ground::Commits,
    Writes::Workspace,
    "for i in $(seq 30); do echo $i >> file && git -c user.name=bench -c user.email=bench@lab.test \
     commit -qam $i || exit 9; done",
));
const MAKE: Work = Work::Inside(inside(Ground::Build, Writes::Workspace, "make -B"));
const FIND: Work = Work::Inside(inside(Ground::Tree, Writes::Nothing, "find . -size +1M"));
const UNPACK: Work = Work::Inside(Inside {
    ground: Ground::Archive,
    before: "mkdir out",
    line: "tar xf files.tar -C out",
    after: "rm -rf out",
    writes: Writes::Workspace,
});
const REMOVE: Work = Work::Inside(Inside {
    ground: Ground::Archive,
    before: "mkdir out && tar xf files.tar -C out",
    line: "rm -rf out",
    after: ":",
    writes: Writes::Workspace,
});

const fn row(
    name: &'static str,
    what: &'static str,
    unit: &'static str,
    work: Work,
    bounds: &'static [Bound],
) -> RowPlan {
    RowPlan {
        name,
        what,
        unit,
        load: Load::Idle,
        work,
        pace: Pace::Usual,
        bounds,
    }
}

const fn busy(plan: RowPlan) -> RowPlan {
    RowPlan {
        load: Load::Busy,
        ..plan
    }
}

const fn at(pace: Pace, plan: RowPlan) -> RowPlan {
    RowPlan { pace, ..plan }
}

use Bound::{Added, AtLeast, Most, Times, TimesRow};

/// Everything, in the order of the document.
#[rustfmt::skip]
pub(super) const ROWS: &[RowPlan] = &[
    row("start", "start of /bin/true", "ms", Work::Start(Ground::Build),
        &[Times(2.0, "bubblewrap"), Times(0.25, "codex sandbox")]),
    busy(row("start-busy", "start of /bin/true", "ms", Work::Start(Ground::Build),
        &[Times(3.0, "bubblewrap")])),
    at(Pace::Few, row("start-cpu", "start of /bin/true, CPU time", "ms", Work::StartCpu,
        &[Times(3.0, "bubblewrap")])),
    row("start-large", "start of /bin/true, workspace of 100,000 files", "ms", Work::Start(Ground::Tree), &[]),
    row("spawns", "500 × /bin/true from a shell", "ms", SPAWNS, &[Times(1.15, "bare")]),
    busy(row("spawns-busy", "500 × /bin/true from a shell", "ms", SPAWNS, &[])),
    row("git-status", "40 × git status, 5,000 files", "ms", STATUS, &[Times(1.05, "bare")]),
    busy(row("git-status-busy", "40 × git status, 5,000 files", "ms", STATUS, &[])),
    row("commits", "30 × git commit", "ms", COMMITS, &[Times(1.05, "bare")]),
    row("make", "make, 13 C files", "ms", MAKE, &[Times(1.03, "bare")]),
    busy(row("make-busy", "make, 13 C files", "ms", MAKE, &[])),
    row("find", "find, 100,000 files", "ms", FIND, &[Times(1.02, "bare")]),
    row("tar", "tar x, 10,000 files", "ms", UNPACK, &[]),
    row("rm", "rm -r, 10,000 files", "ms", REMOVE, &[]),
    row("connect", "new allowed connection, p50 of 100", "µs", Work::Network(Exchange::Connect), &[Added(300.0)]),
    busy(row("connect-busy", "new allowed connection, p50 of 100", "µs", Work::Network(Exchange::Connect), &[])),
    row("request", "HTTP request on a kept connection, p50 of 1000", "µs", Work::Network(Exchange::Request), &[Added(60.0)]),
    busy(row("request-busy", "HTTP request on a kept connection, p50 of 1000", "µs", Work::Network(Exchange::Request), &[])),
    row("relay", "relay of one connection", "MB/s", Work::Network(Exchange::Relay), &[AtLeast(0.5, "bare")]),
    row("first-byte", "first byte of a streamed answer of a model, p50 of 200", "µs", Work::Network(Exchange::FirstByte), &[Added(5000.0)]),
    busy(row("first-byte-busy", "first byte of a streamed answer of a model, p50 of 200", "µs", Work::Network(Exchange::FirstByte), &[])),
    at(Pace::Few, row("turns", "turn of an agent whose model is read, against one whose is not", "×", Work::Network(Exchange::Turns), &[Most(1.03)])),
    busy(at(Pace::Few, row("turns-busy", "turn of an agent whose model is read, against one whose is not", "×", Work::Network(Exchange::Turns), &[]))),
    at(Pace::Once, row("claims", "start and change of a file at 5,000 claims a second for a minute, against the same bytes that are none", "×", Work::Network(Exchange::Flood), &[Most(1.05)])),
    at(Pace::Few, row("crowd", "100 sessions at once, start to end", "ms", Work::Crowd(Asked::Time), &[])),
    at(Pace::Few, row("crowd-memory", "memory of the supervisors of one of 100 sessions", "MB", Work::Crowd(Asked::Memory), &[Most(12.0)])),
    at(Pace::Few, row("memory", "memory of the supervisors of a single session", "MB", Work::Memory, &[Most(12.0)])),
    at(Pace::Few, row("terminal", "100 MB of lines through the terminal", "ms", Work::Terminal, &[Times(2.0, "bare")])),
    at(Pace::Few, row("sessions-first", "sessions, 10,000 records, without an index", "ms", Work::Archive(Question::First), &[])),
    row("sessions", "sessions, 10,000 records", "ms", Work::Archive(Question::List), &[Most(300.0)]),
    row("show", "show last, 10,000 records", "ms", Work::Archive(Question::Last), &[Most(100.0)]),
    at(Pace::Few, row("verify", "log verify --all, 10,000 records", "ms", Work::Archive(Question::Verify), &[Most(3000.0)])),
    at(Pace::Few, row("show-first", "show, 50,000 events, without an index", "ms", Work::Story(Form::First), &[])),
    row("show-events", "show, 50,000 events", "ms", Work::Story(Form::Timeline), &[Most(300.0)]),
    busy(row("show-events-busy", "show, 50,000 events", "ms", Work::Story(Form::Timeline), &[])),
    row("show-tree", "show --tree, 50,000 events", "ms", Work::Story(Form::Tree), &[]),
    row("show-page", "show --html, 50,000 events", "ms", Work::Story(Form::Page), &[Most(2000.0)]),
    busy(row("show-page-busy", "show --html, 50,000 events", "ms", Work::Story(Form::Page), &[])),
    at(Pace::Once, row("show-page-size", "page of 50,000 events", "MB", Work::Story(Form::PageSize), &[Most(8.0)])),
    at(Pace::Once, row("record-agent", "record of Codex, five calls of a tool", "kB", Work::AgentRecord, &[Most(100.0)])),
    at(Pace::Once, row("record-tree", "record of tar x, 10,000 files", "kB", Work::TreeRecord, &[Most(1500.0)])),
    at(Pace::Few, row("decide", "policy decision, 10 rules", "µs", Work::Decide { rules: 10, cedar: 0 }, &[])),
    at(Pace::Few, row("decide-10000", "policy decision, 10,000 rules", "µs", Work::Decide { rules: 10_000, cedar: 0 },
        &[Most(20.0), TimesRow(3.0, "decide")])),
    at(Pace::Few, row("decide-cedar", "policy decision, 10,000 rules and 100 in Cedar", "µs", Work::Decide { rules: 10_000, cedar: 100 },
        &[Most(20.0)])),
    at(Pace::Once, row("crates", "crates that the release is built from", "", Work::Crates, &[Most(200.0)])),
    at(Pace::Once, row("build", "release build from an empty folder", "s", Work::Build, &[])),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_bounds_name_what_takes_part() {
        let names: BTreeSet<_> = ROWS.iter().map(|plan| plan.name).collect();
        assert_eq!(names.len(), ROWS.len());
        for plan in ROWS {
            assert_eq!(plan.name.ends_with("-busy"), plan.load == Load::Busy);
            for bound in plan.bounds {
                match bound {
                    TimesRow(_, row) => assert!(names.contains(row), "{row}"),
                    Added(_) => assert!(plan.work.takes(&Contender::Bare)),
                    Times(_, name) | AtLeast(_, name) => {
                        assert!(super::super::report::COLUMNS.contains(name));
                    }
                    Most(_) => {}
                }
            }
        }
    }
}
