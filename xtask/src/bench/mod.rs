//! `cargo xtask bench`: the targets of the design, measured side by side in one run.
//!
//! Machines drift, so only ratios within one run count: the contenders take turns (ABAB…), and
//! the median of each is compared.

pub(crate) mod contender;
mod decide;
mod memory;
mod report;
mod workload;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Outcome, agents,
    bench::{
        contender::{Contender, Field},
        report::{Report, Row, Sample},
        workload::Workload,
    },
    dist, out,
    stage::Stage,
    test::packages,
    user::{self, User},
    workspace,
};

/// Fills caches before anything counts.
const WARM_UP_ROUNDS: usize = 2;
/// Memory hardly varies, and each sample takes seconds.
const MEMORY_ROUNDS: usize = 3;
/// Each is the median of thousands of decisions.
const DECISION_ROUNDS: usize = 9;
/// Where the result is kept.
const DOCUMENT: &str = "docs/benchmarks.md";

/// Measures, prints the table and writes the document.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Rounds that count, after the warm-up
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(15..=1000))]
    runs: u16,
    /// Measure this program instead of building the release
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Install the other sandboxes first
    #[arg(long)]
    install_rivals: bool,
    /// Leave the document as it is
    #[arg(long)]
    no_write: bool,
}

/// The folder and the user of a measurement, the same for every contender.
struct Lab {
    stage: Stage,
    workspace: PathBuf,
    home: PathBuf,
    account: Option<User>,
}

impl Lab {
    /// As root the measurement is made as an ordinary user, since that is the main use.
    fn new() -> Result<Self> {
        let account = if user::is_root() {
            Some(user::ensure()?)
        } else {
            None
        };
        let stage = Stage::new()?;
        let workspace = stage.folder("workspace", account)?;
        let home = stage.folder("home", account)?;
        Ok(Self {
            stage,
            workspace,
            home,
            account,
        })
    }

    #[cfg(test)]
    fn for_test() -> Self {
        let stage = Stage::new().unwrap();
        let [workspace, home] = ["workspace", "home"].map(|name| stage.folder(name, None).unwrap());
        Self {
            stage,
            workspace,
            home,
            account: None,
        }
    }

    fn prepare(&self, mut command: Command) -> Command {
        match self.account {
            Some(account) => account.apply(&mut command, &self.home),
            None => user::clean_environment(&mut command, &self.home),
        }
        command.current_dir(&self.workspace);
        command
    }

    /// Gives the prepared files to the measuring user.
    fn hand_over(&self) -> Result<()> {
        if let Some(User { uid, gid }) = self.account {
            crate::process::stdout(
                Command::new("chown")
                    .args(["-R", &format!("{uid}:{gid}")])
                    .arg(&self.workspace),
            )?;
        }
        Ok(())
    }
}

/// Runs every measurement.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    if args.install_rivals {
        install_rivals(&target)?;
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => dist::run()?,
    };
    let lab = Lab::new()?;
    out::note("bench: preparing 105,000 files");
    workload::prepare(&lab.workspace)?;
    lab.hand_over()?;
    let field = Field::gather(
        &program,
        &agents::folder(&target),
        &lab.workspace,
        &lab.stage,
    )?;
    let mut report = Report::new(
        contender::versions(&field),
        lab.account.is_some(),
        args.runs,
    )?;
    report.not_measured.extend(field.absent.iter().cloned());

    let starts = [&workload::START, &workload::START_LARGE];
    let works = starts.into_iter().chain(workload::INSIDE);
    for work in works {
        report.rows.push(measure_work(
            work,
            &field.present,
            &lab,
            args.runs.into(),
            &mut report.not_measured,
        )?);
    }
    report.rows.push(measure_memory(
        &field.present,
        &lab,
        &mut report.not_measured,
    )?);
    report.rows.extend(measure_decisions(
        &lab.stage.path("bin/stockade"),
        &mut report.not_measured,
    ));

    if !args.no_write {
        let document = root.join(DOCUMENT);
        fs::write(&document, report.markdown())
            .with_context(|| format!("`{DOCUMENT}` cannot be written"))?;
        out::note(format_args!("bench: {DOCUMENT} is written"));
    }
    out::line(if args.json {
        report.json()?
    } else {
        report.text()
    });
    Ok(Outcome::Passed)
}

fn install_rivals(target: &Path) -> Result<()> {
    let missing = packages::ensure(packages::RIVALS)?;
    if !missing.is_empty() {
        bail!("install {} first; that needs root", missing.join(" "));
    }
    agents::ensure(target, &[agents::AGENTS, agents::RIVALS].concat()).map(drop)
}

/// Measures one workload, the contenders taking turns. One that fails is left out by name, but
/// ours must not fail.
fn measure_work(
    work: &Workload,
    contenders: &[Contender],
    lab: &Lab,
    runs: usize,
    not_measured: &mut Vec<String>,
) -> Result<Row> {
    out::note(format_args!("bench: {}", work.name));
    let sample = |contender: &Contender| {
        work.sample(contender, lab)
            .map(|took: Duration| took.as_secs_f64() * 1000.0)
    };
    take_turns(
        work.name,
        "ms",
        contenders,
        WARM_UP_ROUNDS,
        runs,
        not_measured,
        sample,
    )
}

fn measure_memory(
    contenders: &[Contender],
    lab: &Lab,
    not_measured: &mut Vec<String>,
) -> Result<Row> {
    out::note("bench: memory");
    let sample = |contender: &Contender| memory::supervisors_mb(contender, lab);
    take_turns(
        "memory of all supervisors",
        "MB",
        contenders,
        0,
        MEMORY_ROUNDS,
        not_measured,
        sample,
    )
}

fn take_turns(
    what: &str,
    unit: &'static str,
    contenders: &[Contender],
    warm_up: usize,
    runs: usize,
    not_measured: &mut Vec<String>,
    sample: impl Fn(&Contender) -> Result<f64>,
) -> Result<Row> {
    let mut taking: Vec<(&Contender, Vec<f64>)> = contenders
        .iter()
        .map(|contender| (contender, Vec::new()))
        .collect();
    for round in 0..warm_up + runs {
        let mut out_of_it = Vec::new();
        for (contender, samples) in &mut taking {
            match sample(contender) {
                Ok(value) if round >= warm_up => samples.push(value),
                Ok(_) => {}
                Err(error) if matches!(contender, Contender::Bare | Contender::Stockade { .. }) => {
                    return Err(error.context(format!("`{what}` failed for {}", contender.name())));
                }
                Err(error) => {
                    not_measured.push(format!("{what}, {}: {error:#}", contender.name()));
                    out_of_it.push(contender.name());
                }
            }
        }
        taking.retain(|(contender, _)| !out_of_it.contains(&contender.name()));
        // Another one begins the next round, so that no one always follows the same neighbour.
        if !taking.is_empty() {
            taking.rotate_left(1);
        }
    }
    let order = |name: &str| {
        contenders
            .iter()
            .position(|contender| contender.name() == name)
    };
    taking.sort_by_key(|(contender, _)| order(contender.name()));
    let samples = taking
        .into_iter()
        .map(|(contender, values)| Sample::new(contender.name(), values))
        .collect();
    Ok(Row {
        what: what.into(),
        unit,
        samples,
    })
}

fn measure_decisions(program: &Path, not_measured: &mut Vec<String>) -> Vec<Row> {
    out::note("bench: policy decisions");
    let mut measured: Vec<(u32, Vec<f64>)> = decide::RULES
        .iter()
        .map(|rules| (*rules, Vec::new()))
        .collect();
    // The sizes take turns, since they are compared with each other.
    for _ in 0..DECISION_ROUNDS {
        measured.retain_mut(|(rules, values)| {
            let value = decide::microseconds(program, *rules);
            let measured = value.is_ok();
            match value {
                Ok(value) => values.push(value),
                Err(error) => {
                    not_measured.push(format!("{}: {error:#}", report::decision_row(*rules)));
                }
            }
            measured
        });
    }
    let row = |(rules, values)| Row {
        what: report::decision_row(rules),
        unit: "µs",
        samples: vec![Sample::new("stockade", values)],
    };
    measured.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_and_a_failing_rival_is_left_out_by_name() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut not_measured = Vec::new();
        let row = take_turns(
            "work",
            "ms",
            &[Contender::Bare, Contender::Bubblewrap],
            1,
            2,
            &mut not_measured,
            |contender| {
                order.borrow_mut().push(contender.name());
                if matches!(contender, Contender::Bare) || order.borrow().len() < 3 {
                    Ok(1.0)
                } else {
                    bail!("broken")
                }
            },
        );
        let names: Vec<_> = row
            .unwrap()
            .samples
            .into_iter()
            .map(|sample| sample.name)
            .collect();
        assert_eq!(
            *order.borrow(),
            ["bare", "bubblewrap", "bubblewrap", "bare", "bare"]
        );
        assert_eq!(names, ["bare"]);
        assert_eq!(not_measured, ["work, bubblewrap: broken"]);
    }

    #[test]
    fn our_own_failure_is_an_error() {
        let ours = Contender::Stockade {
            program: "/nonexistent".into(),
        };
        let result = take_turns("work", "ms", &[ours], 0, 1, &mut Vec::new(), |_| {
            bail!("broken")
        });
        assert!(format!("{:#}", result.err().unwrap()).contains("failed for stockade: broken"));
    }
}
