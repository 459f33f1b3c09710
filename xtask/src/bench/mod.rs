//! `cargo xtask bench`: the targets of the design, measured side by side in one run.
//!
//! Machines drift, so only ratios within one row count: the contenders take turns (ABAB…), and
//! the median of each is compared. A row ends when it has its samples or its time is over; what it
//! has is written at once.

mod agent;
mod bounded;
mod build;
mod busy;
pub(crate) mod client;
pub(crate) mod contender;
mod cpu;
mod crowd;
mod decide;
mod document;
mod figures;
mod ground;
mod lab;
mod memory;
mod network;
mod records;
mod report;
mod rows;
mod story;
mod terminal;
mod turns;
mod workload;

use std::{
    cell::OnceCell,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
pub(crate) use document::{LOAD_HEAD, with_load};
pub(crate) use figures::figure;
pub(crate) use report::machine;
use sha2::{Digest, Sha256};

use self::{
    busy::Spinners,
    contender::{Contender, Field},
    ground::Ground,
    lab::Lab,
    network::Server,
    records::Archive,
    report::{Report, Row},
    rows::{ROWS, RowPlan, Work},
    story::Story,
    turns::{Rounds, take_turns},
};
use crate::{Outcome, agents, dist, out, process, test::packages, user, workspace};

/// Where the result is kept.
const DOCUMENT: &str = "docs/benchmarks.md";
/// Every sample of the last run, in the target folder.
const RESULTS: &str = "bench.json";
/// Characters of a failure that are kept: enough to say which it is.
const FAILURE_CHARS: usize = 400;
/// Set where the mounts are already our own.
const INSIDE: &str = "STOCKADE_BENCH_MOUNTS";

/// Measures, prints the table and writes the document.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Args {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Rounds that count, after the warm-up
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Measure these rows alone and keep the others of the last run
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the names of all rows and measure nothing
    #[arg(long)]
    list: bool,
    /// Measure this program instead of building the release
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Install the other sandboxes first
    #[arg(long)]
    install_rivals: bool,
    /// Leave the document and the last run's results as they are
    #[arg(long)]
    no_write: bool,
}

/// Runs every measurement.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    if args.list {
        for plan in ROWS {
            out::line(format_args!("{:<18} {}", plan.name, report::heading(plan)));
        }
        return Ok(Outcome::Passed);
    }
    let plans = chosen(&args.rows)?;
    if user::is_root() && std::env::var_os(INSIDE).is_none() {
        return with_own_mounts();
    }
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    if args.install_rivals {
        install_rivals(&target)?;
    }
    let (program, which) = match &args.program {
        Some(program) => (program.clone(), digest(program)?),
        None => (dist::run()?, commit(&root)?),
    };
    let lab = Lab::new()?;
    let agents = agents::folder(&target);
    let field = Field::gather(&program, &agents, &lab.workspaces, &lab.stage)?;
    let as_user = if lab.account.is_some() {
        format!("the ordinary user `{}`", user::NAME)
    } else {
        "the calling user".to_owned()
    };
    let mut report = Report::new(
        &as_user,
        lab.in_memory,
        contender::versions(&field),
        field.absent.clone(),
    )?;
    let results = target.join(RESULTS);
    if !args.rows.is_empty()
        && let Some(earlier) = Report::load(&results)
    {
        report.keep_others(earlier, &plans);
    }
    let day = jiff::Zoned::now().strftime("%Y-%m-%d").to_string();
    let bench = Bench {
        lab,
        field,
        agents,
        server: OnceCell::new(),
        archive: Archive::default(),
        story: Story::default(),
        measured: format!("{day}, {which}"),
        runs: args.runs,
    };
    let mut outcome = Outcome::Passed;
    for (number, plan) in plans.iter().enumerate() {
        let place = format!("[{}/{}]", number + 1, plans.len());
        let row = bench.measure(plan, &place)?;
        if row.failures.iter().any(|failure| is_ours(failure)) {
            outcome = Outcome::Failed;
        }
        report.put(row);
        if !args.no_write {
            write(&report, &root, &results)?;
        }
    }
    out::line(if args.json {
        report.json()?
    } else {
        report.text()
    });
    Ok(outcome)
}

/// Tells whether a failure leaves nothing to compare.
fn is_ours(failure: &str) -> bool {
    ["bare: ", "stockade: "]
        .iter()
        .any(|name| failure.starts_with(name))
}

/// Returns the beginning of a failure, which may hold all that a program printed.
fn brief(failure: &str) -> String {
    let mut text: String = failure.chars().take(FAILURE_CHARS).collect();
    if text.len() < failure.len() {
        text.push('…');
    }
    text
}

/// Becomes this program again where its mounts are its own, with the same arguments; returns why it
/// could not.
fn with_own_mounts() -> Result<Outcome> {
    let this = std::env::current_exe().context("this program has no path")?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("`unshare` could not be started; install util-linux")
}

/// Returns the rows of these names, or all but those on request.
fn chosen(names: &[String]) -> Result<Vec<&'static RowPlan>> {
    for name in names {
        ensure!(
            ROWS.iter().any(|plan| plan.name == name),
            "there is no row `{name}`; `cargo xtask bench --list` names them"
        );
    }
    let wanted = |plan: &&RowPlan| {
        if names.is_empty() {
            !plan.work.is_on_request()
        } else {
            names.iter().any(|name| name == plan.name)
        }
    };
    Ok(ROWS.iter().filter(wanted).collect())
}

fn write(report: &Report, root: &Path, results: &Path) -> Result<()> {
    let path = root.join(DOCUMENT);
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, document::with_front(&before, &report.markdown()))
        .with_context(|| format!("`{DOCUMENT}` cannot be written"))?;
    fs::write(results, report.json()?)
        .with_context(|| format!("`{}` cannot be written", results.display()))
}

/// Names the commit that is built, and says whether there is more than that.
pub(crate) fn commit(root: &Path) -> Result<String> {
    let git = |words: &[&str]| process::stdout(Command::new("git").args(words).current_dir(root));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&[
        "status",
        "--porcelain",
        "--",
        "crates",
        "policies",
        "Cargo.lock",
    ])?;
    let changed = if changes.trim().is_empty() {
        ""
    } else {
        " with changes"
    };
    Ok(format!("commit {}{changed}", commit.trim()))
}

/// Names a program that somebody else built.
pub(crate) fn digest(program: &Path) -> Result<String> {
    let bytes =
        fs::read(program).with_context(|| format!("`{}` cannot be read", program.display()))?;
    let digest: String = dist::hex(&Sha256::digest(&bytes))
        .chars()
        .take(12)
        .collect();
    Ok(format!("a given program with the SHA-256 {digest}…"))
}

fn install_rivals(target: &Path) -> Result<()> {
    let missing = packages::ensure(packages::RIVALS)?;
    if !missing.is_empty() {
        bail!("install {} first; that needs root", missing.join(" "));
    }
    agents::ensure(target, &[agents::AGENTS, agents::RIVALS].concat()).map(drop)
}

/// Everything that rows need.
struct Bench {
    lab: Lab,
    field: Field,
    agents: PathBuf,
    server: OnceCell<Server>,
    archive: Archive,
    story: Story,
    /// Day and program.
    measured: String,
    runs: u16,
}

impl Bench {
    /// Measures one row, the contenders taking turns.
    fn measure(&self, plan: &RowPlan, place: &str) -> Result<Row> {
        let began = Instant::now();
        // What is made here is no part of the row's time; what cannot be made fails again below.
        if let Err(error) = self.prepare(plan.work) {
            out::note(format_args!("bench: {}: {error:#}", plan.name));
        }
        let contenders: Vec<&Contender> = self
            .field
            .present
            .iter()
            .filter(|contender| plan.work.takes(contender))
            .collect();
        let runs = plan.pace.runs(self.runs);
        let rounds = Rounds {
            warm_up: plan.pace.warm_up(),
            runs,
            longest: plan.pace.longest(),
        };
        // What others do on the machine is part of a figure, so it stands beside it.
        let besides =
            busy::load_average().map_or_else(String::new, |load| format!(", load {load}"));
        let spinners = Spinners::start(plan.load)?;
        let taken = take_turns(&contenders, rounds, |contender| {
            self.sample(plan.work, contender)
        });
        drop(spinners);
        let row = Row {
            name: plan.name.to_owned(),
            measured: format!("{}{besides}", self.measured),
            runs,
            samples: taken.samples,
            failures: taken
                .failures
                .into_iter()
                .map(|(name, error)| brief(&format!("{name}: {error:#}")))
                .collect(),
        };
        out::note(format_args!(
            "bench: {place} {}, {}: {:.1} s",
            plan.name,
            plan.load.name(),
            began.elapsed().as_secs_f64()
        ));
        for failure in &row.failures {
            out::note(format_args!("bench: {}: {failure}", plan.name));
        }
        Ok(row)
    }

    /// Makes what a row needs, so that its rounds do nothing but measure.
    fn prepare(&self, work: Work) -> Result<()> {
        let (lab, program) = (&self.lab, self.lab.stage.path("bin/stockade"));
        match work {
            Work::Start(ground) => lab.ground(ground).map(drop),
            Work::Inside(inside) => lab.ground(inside.ground).map(drop),
            Work::StartCpu | Work::Memory | Work::Crowd(_) => lab.ground(Ground::Build).map(drop),
            Work::Network(_) => self.server().map(drop),
            Work::Terminal => lab.ground(Ground::Text).map(drop),
            Work::TreeRecord => lab.ground(Ground::Archive).map(drop),
            Work::Archive(_) => self.archive.state(&program, lab).map(drop),
            Work::AgentRecord => records::build_agent().map(drop),
            Work::Story(_) => self.story.made(lab).map(drop),
            Work::Decide { .. } | Work::Crates | Work::Build => Ok(()),
        }
    }

    fn sample(&self, work: Work, contender: &Contender) -> Result<f64> {
        let (lab, program) = (&self.lab, self.lab.stage.path("bin/stockade"));
        match work {
            Work::Start(ground) => workload::start(ground, contender, lab),
            Work::StartCpu => workload::start_cpu(contender, lab),
            Work::Inside(inside) => inside.sample(contender, lab),
            Work::Memory => memory::supervisors_mb(contender, lab),
            Work::Crowd(asked) => crowd::sample(asked, contender, lab),
            Work::Network(exchange) => self.server()?.sample(exchange, contender, lab),
            Work::Terminal => terminal::sample(contender, lab),
            Work::Archive(question) => self.archive.sample(question, &program, lab),
            Work::Story(form) => self.story.sample(form, &program, lab),
            Work::TreeRecord => records::of_tree_kb(contender, lab),
            Work::AgentRecord => records::of_agent_kb(&program, &self.agents),
            Work::Decide { rules, cedar } => decide::microseconds(&program, rules, cedar),
            Work::Crates => build::crates(),
            Work::Build => build::seconds(),
        }
    }

    fn server(&self) -> Result<&Server> {
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let server = Server::start(&self.lab)?;
        Ok(self.server.get_or_init(|| server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_an_unknown_one_is_an_error() {
        let names = |rows: &[&str]| {
            let rows: Vec<String> = rows.iter().map(|name| (*name).to_owned()).collect();
            chosen(&rows).map(|plans| plans.iter().map(|plan| plan.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["make", "build"]).unwrap(), ["make", "build"]);
        let all = names(&[]).unwrap();
        assert!(all.contains(&"start") && !all.contains(&"build"), "{all:?}");
        assert!(names(&["mak"]).unwrap_err().to_string().contains("`mak`"));
    }

    #[test]
    fn a_rivals_failure_is_not_ours() {
        assert!(is_ours("stockade: broken") && is_ours("bare: broken"));
        assert!(!is_ours("bubblewrap: broken"));
    }
}
