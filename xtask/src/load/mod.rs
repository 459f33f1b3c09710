//! `cargo xtask load`: a server with thousands of machines, measured against the targets of the design.
//!
//! The machines are played by the example `load` of the test kit, in one process beside the server; this
//! builds both, prints the figures, and writes them into the document of the benchmarks.

mod section;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use self::section::Scenario;
use crate::{Outcome, bench, out, process, workspace};

/// Where the figures are kept.
const DOCUMENT: &str = "docs/benchmarks.md";
/// Kills of the long form.
const ROUNDS: u32 = 1_000;

/// Measures a server with many machines.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to do: all, or storm, ship, peer (mosquitto, if it is installed), ask, tail, roll, flood, kill
    #[arg(required = true, value_parser = ["all", "storm", "ship", "peer", "ask", "tail", "roll", "flood", "kill"])]
    scenarios: Vec<String>,
    /// Machines
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=8_000))]
    nodes: u32,
    /// Events that machines write in a second, together
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long they write
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Kills; without it 1000, and 60 of `all`
    #[arg(long)]
    rounds: Option<u32>,
    /// Try this program, and build the machines as a release, instead of building both for tests
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Leave the document as it is; only `all` writes it
    #[arg(long)]
    no_write: bool,
}

/// Runs the scenarios.
pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let root = workspace::root()?;
    let target = workspace::target_dir(&root)?;
    let is_all = args.scenarios.iter().any(|name| name == "all");
    let (program, load, which) = if let Some(program) = &args.program {
        let mut build = workspace::cargo();
        build.args([
            "build",
            "--release",
            "--locked",
            "--package",
            "stockade-testkit",
        ]);
        process::show(build.args(["--example", "load"]).current_dir(&root))?;
        let load = target.join("release/examples/load");
        (program.clone(), load, bench::digest(program)?)
    } else {
        process::build_with_example(&root, Some("stockade"), "load")?;
        let load = target.join("debug/examples/load");
        let which = format!("{}, built for tests", bench::commit(&root)?);
        (target.join("debug/stockade"), load, which)
    };
    let rounds = args.rounds.unwrap_or(if is_all { 60 } else { ROUNDS });
    let mut command = Command::new(load);
    command.arg(&program).args(&args.scenarios);
    for (option, value) in [
        ("--nodes", args.nodes),
        ("--rate", args.rate),
        ("--seconds", args.seconds),
        ("--rounds", rounds),
    ] {
        command.args([option, &value.to_string()]);
    }
    let scenarios = measure(&mut command)?;
    let is_reached = scenarios.iter().all(Scenario::is_reached);
    if is_all && !args.no_write {
        write(&root, &which, &scenarios)?;
    }
    Ok(if is_reached {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

/// Runs the machines, and prints each scenario.
fn measure(command: &mut Command) -> Result<Vec<Scenario>> {
    // What it says while it works is shown; what it has measured is read.
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("the machines cannot be started")?;
    let text = String::from_utf8(output.stdout).context("the machines print no text")?;
    let mut scenarios = Vec::new();
    for line in text.lines() {
        let scenario: Scenario = serde_json::from_str(line)
            .with_context(|| format!("the machines print no figures: {line}"))?;
        out::line(scenario.text());
        scenarios.push(scenario);
    }
    if !output.status.success() {
        bail!("the machines ended with {}", output.status);
    }
    Ok(scenarios)
}

fn write(root: &Path, which: &str, scenarios: &[Scenario]) -> Result<()> {
    let path = root.join(DOCUMENT);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let section = section::markdown(which, &bench::machine()?, scenarios);
    let after = bench::with_load(&before, &section);
    fs::write(&path, after).with_context(|| format!("`{DOCUMENT}` cannot be written"))
}
