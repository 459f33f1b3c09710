//! `stockade run`: a command inside the boundary.

mod given;
mod job;
mod pins;
mod ports;
pub(crate) mod rehearsal;
mod session_file;
mod start;
pub(crate) mod summary;
mod terminals;
mod words;

use std::path::PathBuf;

use anyhow::{Context, bail};
use stockade_event::{SessionOutcome, Summary};
use stockade_journal::{ReadError, Verification};
use stockade_plan::{LaunchPlan, Network};
use stockade_policy::{Policy, Problems};
use stockade_runner::{ErrorKind, Helpers, Options, RunError};
use stockade_types::{AskMode, GuaranteeName, RawText, RequestKind, SessionId, Tier};

use self::terminals::Hold;
use crate::{
    exit::Exit,
    host_sets,
    human::{safe, safe_lines},
    layers::{self, LayerArgs},
    output::Output,
    retention::{self, Keep},
    state::StateDir,
};

/// Arguments of `stockade run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stockade run -- codex                    Codex on this directory
  stockade run --ask deny -- ./ci-task.sh  unattended: an ask is a deny
  stockade run --env LAB_KEY -- codex      passes a variable of yours
  stockade run --allow-host docs.good.test -- claude
                                           asks no question about that host
  stockade run --publish 3000 -- npm run dev
                                           publishes the server at 127.0.0.1:3000
  stockade run --service localhost:11434 -- codex
                                           can use a model server of this machine
  stockade run --plan -- bash              only prints what would be done

Exit codes: the command's own; 124 wall-time limit; 125 not started, nothing
ran; 126 denied or not executable; 127 not found; 128+n ended by signal n.")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one flag of the command line"
)]
pub(crate) struct Args {
    /// Directory that the command works on [default: the current directory]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    #[command(flatten)]
    layers: LayerArgs,
    #[command(flatten)]
    given: given::GivenArgs,
    /// Keep the agent's own questions, which its preset switches off because this boundary asks
    #[arg(long)]
    own_questions: bool,
    /// Where questions go [default: tty on a terminal, else deny]
    #[arg(long, value_name = "WHO", value_parser = words::ask())]
    ask: Option<AskMode>,
    /// Make the workspace an overlay that you review at the end (not available yet)
    #[arg(long)]
    review: bool,
    /// No network, not even DNS
    #[arg(long)]
    offline: bool,
    /// How strong the isolation is
    #[arg(long, value_name = "TIER", default_value = words::AUTO, value_parser = words::tier)]
    tier: Tier,
    /// A guarantee that must hold, or nothing starts; repeatable
    #[arg(long, value_name = "GUARANTEE", value_parser = words::guarantee)]
    require: Vec<GuaranteeName>,
    /// Run without a guarantee; the reason is recorded; repeatable
    #[arg(long, value_name = "GUARANTEE=REASON", value_parser = words::waiver)]
    waive: Vec<(GuaranteeName, String)>,
    /// Print the launch plan and stop
    #[arg(long)]
    plan: bool,
    /// With --plan: as JSON
    #[arg(long, requires = "plan")]
    json: bool,
    /// Form of the summary at the end, on standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    summary: SummaryForm,
    /// Write the session's id to this file at the start; a link or device is refused
    #[arg(long, value_name = "PATH")]
    session_file: Option<PathBuf>,
    /// Name of the session, for people
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Make one step of the launch fail (for tests of the launch itself)
    #[arg(long, hide = true, value_name = "INDEX")]
    fail_step: Option<usize>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SummaryForm {
    /// For people
    Text,
    /// One JSON line
    Json,
    /// Nothing
    None,
}

/// Exit code of a session that was not started.
pub(crate) const NOT_STARTED: u8 = 125;

/// Exit code in place of 0 where the command's output could not be written: that of programs that
/// cannot write their own.
const UNWRITTEN: u8 = 1;

/// Runs the command; every failure before it is 125, 126 or 127 with one reason.
pub(crate) fn run(args: Args, out: &mut Output) -> Exit {
    attempt(args, out).unwrap_or_else(|error| explain(&error, out))
}

fn attempt(mut args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    let argv: Vec<RawText> = args.command.iter().map(|w| RawText::from_os(w)).collect();
    args.layers.command.clone_from(&argv);
    args.layers.given = args.given.source();
    args.layers.workspace.clone_from(&args.workspace);
    check_supported(&args)?;
    let sources = layers::collect(&args.layers)?;
    let workspace = layers::workspace_of(&args.layers).unwrap_or_default();
    let gathered = host_sets::gather(&workspace, &sources);
    let host_sets = &gathered.sets;
    let hold = Hold::of_caller();
    let mut environment = environment();
    for note in args.given.apply(&mut environment) {
        out.note(format!("stockade: {}", safe(&note)));
    }
    let streams = hold.streams();
    let helpers = if args.plan {
        None
    } else {
        let helpers = Helpers::start(&sources, host_sets, streams, args.network(), &environment)?;
        Some(helpers)
    };
    let mut policy = checked(stockade_policy::load(&sources, host_sets)?, out)?;
    if args.own_questions {
        policy.keep_own_questions();
    }
    let current = std::env::current_dir().context("there is no current directory")?;
    let ask = ask_mode(args.ask, hold)?;
    let enrolment = layers::enrolment()?;
    pins::check(&policy, &args, ask, enrolment.as_ref())?;
    let state = opened(&gathered)?;
    let keep = Keep::from(policy.settings());
    let options = Options {
        state_dir: state.path().to_owned(),
        workspace: args.workspace.clone().unwrap_or_else(|| current.clone()),
        argv,
        policy,
        policy_places: layers::places(&args.layers, &current)?,
        cwd: current,
        tier: args.tier,
        ask,
        network: args.network(),
        terminal: hold.size(),
        streams,
        name: args.name.clone(),
        require: args.require.clone(),
        waive: args.waive.clone(),
        environment,
        fault: args.fail_step,
        enrolment,
        version: env!("CARGO_PKG_VERSION"),
    };
    let Some(helpers) = helpers else {
        let plan = stockade_runner::plan(options)?;
        out.set_json(args.json);
        out.value(&plan, plan_text)?;
        return Ok(Exit::Yes);
    };
    let job = job::Job::begin(&state, out);
    let finished = start::run(options, helpers, hold, args.session_file.as_deref(), out)?;
    conclude(&finished, args.summary, &state, out);
    if let Some(job) = job {
        job.finish(out);
    }
    if let Err(error) = retention::remove_seldom(&state, keep) {
        out.note(safe_lines(&format!(
            "stockade: old records stay: {error:#}"
        )));
    }
    Ok(exit(&finished))
}

/// Opens the state directory, and keeps there what was gathered.
fn opened(gathered: &host_sets::Gathered) -> anyhow::Result<StateDir> {
    let state = StateDir::open_or_create()?;
    gathered.keep(&state).with_context(|| {
        format!(
            "cannot write to the state directory `{}`; make room or set STOCKADE_STATE_DIR to a \
             directory that can be written",
            state.path().display()
        )
    })?;
    Ok(state)
}

impl Args {
    const fn network(&self) -> Network {
        if self.offline {
            Network::Isolated
        } else {
            Network::Proxied
        }
    }
}

/// Returns who is asked.
fn ask_mode(wanted: Option<AskMode>, hold: Hold) -> anyhow::Result<AskMode> {
    Ok(match (wanted, hold) {
        (Some(AskMode::Inbox), _) => AskMode::Inbox,
        (Some(AskMode::Server), _) => AskMode::Server,
        (Some(AskMode::Deny), _) | (None, Hold::Beside | Hold::Nothing) => AskMode::Deny,
        (Some(AskMode::Tty) | None, Hold::Whole) => AskMode::Tty,
        (Some(AskMode::Tty), Hold::Beside | Hold::Nothing) => bail!(
            "`--ask tty` needs a terminal on standard input and output; use `--ask inbox` or `--ask deny`"
        ),
    })
}

const fn exit(finished: &start::Finished) -> Exit {
    if let Some(whole_group) = finished.interrupted {
        return Exit::Interrupted(whole_group);
    }
    // A caller that got only part of the output must not take it for the whole.
    match (&finished.unwritten, finished.ended.code) {
        (Some(_), 0) => Exit::Run(UNWRITTEN),
        (_, code) => Exit::Run(code),
    }
}

/// Most warnings about the policy that a run shows.
const WARNINGS_SHOWN_MAX: usize = 5;

/// Refuses a policy that shares what is ours, and says what of it has no effect; nothing else
/// would tell.
fn checked(policy: Policy, out: &mut Output) -> Result<Policy, Problems> {
    layers::check_places(&policy)?;
    let warnings = policy.warnings();
    for warning in warnings.iter().take(WARNINGS_SHOWN_MAX) {
        out.note(warning);
    }
    let more = warnings.len().saturating_sub(WARNINGS_SHOWN_MAX);
    if more > 0 {
        out.note(format!(
            "stockade: {more} more; `stockade policy check FILE` shows all"
        ));
    }
    Ok(policy)
}

/// Returns the variables of the caller.
fn environment() -> Vec<(RawText, RawText)> {
    std::env::vars_os()
        .map(|(name, value)| (RawText::from_os(&name), RawText::from_os(&value)))
        .collect()
}

fn check_supported(args: &Args) -> anyhow::Result<()> {
    if args.review {
        bail!(
            "the review workspace is not available yet; run without --review, on a clean work tree"
        );
    }
    Ok(())
}

/// Renders a plan for people, a line a step.
fn plan_text(plan: &LaunchPlan) -> String {
    let mut lines = vec![format!(
        "tier {} · uid {} · {} steps",
        plan.tier,
        plan.identity.uid,
        plan.steps.len()
    )];
    for (index, step) in plan.steps.iter().enumerate() {
        let value = serde_json::to_value(step).unwrap_or_default();
        let fields = value.as_object().map(|fields| {
            fields
                .iter()
                .filter(|(name, _)| *name != "step")
                .map(|(name, value)| safe(&format!("{name}={value}")))
                .collect::<Vec<_>>()
                .join(" ")
        });
        let fields = fields.unwrap_or_default();
        lines.push(format!("{index:>4} {:<20} {fields}", step.name()));
    }
    lines.push(format!("{:<15} {}", "boundary", plan.boundary));
    lines.extend(plan.guarantees.iter().map(|guarantee| {
        let state = if guarantee.holds { "holds" } else { "not held" };
        let how = guarantee.missing.as_ref().unwrap_or(&guarantee.how);
        format!("{:<15} {state}: {how}", guarantee.name)
    }));
    lines.extend(plan.notes.iter().map(|note| safe(note)));
    lines.join("\n")
}

/// Prints why nothing ran, with the next step, and gives the exit code.
fn explain(error: &anyhow::Error, out: &mut Output) -> Exit {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for problem in &problems.0 {
            out.note(problem);
        }
        let count = problems.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        out.note(format!(
            "stockade: {count} {noun} in the policy, nothing started"
        ));
        return Exit::Run(NOT_STARTED);
    }
    out.note(safe_lines(&format!("stockade: {error:#}")));
    let Some(run_error) = error.downcast_ref::<RunError>() else {
        return Exit::Run(NOT_STARTED);
    };
    if let Some(remedy) = run_error.remedy() {
        out.note(safe_lines(&format!("          {remedy}")));
    }
    match run_error.kind() {
        ErrorKind::NotStarted => Exit::Run(NOT_STARTED),
        ErrorKind::NotExecutable => Exit::Run(126),
        ErrorKind::NotFound => Exit::Run(127),
    }
}

/// Says what happened: why a command did not run, what the record holds.
fn conclude(finished: &start::Finished, form: SummaryForm, state: &StateDir, out: &mut Output) {
    if let Some(failure) = &finished.ended.not_executed {
        // A program that a rule refuses gets the same answer as one without permission.
        let denied = failure.errno == Some(rustix::io::Errno::ACCESS.raw_os_error());
        let refusal = denied
            .then(|| read_back(&finished.session, state).ok())
            .flatten()
            .and_then(|(summary, _)| {
                let mut refused = summary.refused.into_iter();
                refused.find(|refusal| refusal.kind == RequestKind::Exec)
            });
        let (what, remedy) = match refusal {
            Some(refusal) => (
                format!(
                    "`{}` was refused ({}): {}",
                    safe(&refusal.target),
                    summary::why(&refusal),
                    safe(&refusal.reason)
                ),
                safe(&refusal.remedy),
            ),
            None => (
                safe(&format!("the command did not start: {failure}")),
                safe(&failure.remedy),
            ),
        };
        out.note(format!("stockade: {what}"));
        out.note(format!("          {remedy}"));
    }
    if let Some(error) = &finished.unwritten {
        out.note(format!(
            "stockade: not all output of the command could be written: {error}"
        ));
    }
    if let Some(reason) = &finished.ended.unrecorded {
        if let SessionOutcome::Killed { reason } = &finished.ended.outcome {
            let reason = safe(reason);
            out.note(format!("stockade: the session was ended: {reason}"));
        }
        out.note(format!(
            "stockade: the end of the record could not be written: {}",
            safe(reason)
        ));
    }
    for note in &finished.ended.notes {
        out.note(format!("stockade: {}", safe(note)));
    }
    if form != SummaryForm::None {
        sum_up(finished, form, state, out);
    }
}

/// Prints the summary of a session.
fn sum_up(finished: &start::Finished, form: SummaryForm, state: &StateDir, out: &mut Output) {
    let (mut summary, verification) = match read_back(&finished.session, state) {
        Ok(read) => read,
        Err(error) => {
            let why = safe(&format!("{error:#}"));
            return out.note(format!("stockade: the record cannot be read: {why}"));
        }
    };
    // A record that could not be ended does not say how; this process knows.
    summary
        .outcome
        .get_or_insert_with(|| finished.ended.outcome.clone());
    let rules = match &finished.unasked {
        Some((sources, sets)) => summary::allowing(&summary, sources, sets),
        None => Vec::new(),
    };
    let extra = summary::Extra {
        verification: Some(&verification),
        names: Some(&finished.names),
        rules: &rules,
        ..summary::Extra::default()
    };
    match form {
        SummaryForm::Json => out.note(summary::to_json(&summary, extra)),
        SummaryForm::Text | SummaryForm::None => {
            out.note(summary::render(&summary, &finished.session, extra).trim_end());
        }
    }
}

fn read_back(session: &SessionId, state: &StateDir) -> anyhow::Result<(Summary, Verification)> {
    let directory = state.session_dir(session);
    let mut summary = Summary::default();
    for envelope in stockade_journal::read(&directory)? {
        match envelope {
            Ok(envelope) => summary.add(&envelope),
            // A full disk tears the last line; what stands before it is told all the same, and the
            // verification says what is wrong.
            Err(ReadError::Torn { .. } | ReadError::Line { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let key = stockade_journal::SigningKey::load(&state.key_path())?.verifying_key();
    Ok((
        summary,
        stockade_journal::verify(&directory, session, &key)?,
    ))
}
