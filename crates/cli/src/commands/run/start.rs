//! Starting a session from this terminal or these pipes, and staying with it to its end.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    thread,
};

use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::Signals,
};
use stockade_event::SessionOutcome;
use stockade_plan::Streams;
use stockade_policy::{HostSets, Source, WorkspaceSettings};
use stockade_runner::{
    Controller, Ended, Helpers, Options, RecordedTerminal, Running, TerminalReaders,
    TerminalRecording,
};
use stockade_types::AskMode;
use stockade_types::SessionId;

use super::{
    session_file::SessionFile,
    terminals::{self, Hold},
};
use crate::{human::safe, output::Output, rules::keep_answer};
use stockade_terminal::{
    Color, PipeEnds, PipeRelay, Readers, Recording, RelayOptions, job::WholeGroup, relay,
    relay_beside,
};

/// A session that has ended.
pub(crate) struct Finished {
    pub(crate) session: SessionId,
    pub(crate) ended: Ended,
    /// Why output of the command did not reach the caller, where some did not.
    pub(crate) unwritten: Option<io::Error>,
    /// Which names of the workspace mean something to other programs.
    pub(crate) names: WorkspaceSettings,
    /// The layers of its policy, where nobody could be asked.
    pub(crate) unasked: Option<(Vec<Source>, HostSets)>,
    /// Who is interrupted with us, where an interrupt ended the command.
    pub(crate) interrupted: Option<WholeGroup>,
}

/// Runs a session to its end.
pub(crate) fn run(
    options: Options,
    helpers: Helpers,
    hold: Hold,
    session_file: Option<&Path>,
    out: &mut Output,
) -> anyhow::Result<Finished> {
    let streams = options.streams;
    let ask = options.ask;
    let names = options.policy.settings().workspace.clone();
    let layers = || {
        let policy = &options.policy;
        (policy.sources().to_vec(), policy.host_sets().clone())
    };
    let unasked = (ask == AskMode::Deny).then(layers);
    // Before anything runs: a caller that cannot be told the id gets no session.
    let session_file = session_file
        .map(|path| SessionFile::prepare(path, &options.workspace))
        .transpose()?;
    let running = stockade_runner::start(options, helpers)?;
    let session = running.session().clone();
    let told = session_file
        .map_or(Ok(()), |file| file.place(&session))
        .and_then(|()| forward_signals(running.controller()));
    if let Err(error) = told {
        return Err(end(running, error));
    }
    if hold == Hold::Whole {
        announce(&running, ask, out);
    }
    for note in &running.plan().notes {
        out.note(format!("stockade: {}", safe(note)));
    }
    let (ended, unwritten, group) = match hold {
        Hold::Whole => in_terminal(running, None, out)?,
        Hold::Beside => in_terminal(running, Some(streams), out)?,
        Hold::Nothing => through_pipes(running)?,
    };
    let by_interrupt = ended.outcome == SessionOutcome::Signaled { signal: SIGINT };
    Ok(Finished {
        session,
        ended,
        unwritten,
        names,
        unasked,
        interrupted: by_interrupt.then_some(group),
    })
}

/// Ends a session that cannot be attended to, with its record closed.
fn end(running: Running, error: anyhow::Error) -> anyhow::Error {
    running
        .controller()
        .abort(&format!("it could not be attended to: {error:#}"));
    running.wait();
    error
}

/// One line on what holds, one more only where something is weaker.
fn announce(running: &Running, ask: AskMode, out: &mut Output) {
    let plan = running.plan();
    let names = |holds: bool| {
        plan.guarantees
            .iter()
            .filter(move |g| g.holds == holds)
            .map(|g| g.name.as_str())
    };
    // The place on a line of its own: it is the one part that can be long.
    out.note(format!(
        "stockade: boundary {} · session {} · ask {ask}",
        plan.tier.as_str(),
        plan.session.short(),
    ));
    out.note(format!(
        "          works on {} (direct)",
        running.workspace()
    ));
    out.note(format!(
        "          holds: {}",
        names(true).collect::<Vec<_>>().join(" ")
    ));
    if let Some(source) = running.records_terminal() {
        let source = safe(source);
        out.note(format!("          records the terminal ({source})"));
    }
    for guarantee in plan.guarantees.iter().filter(|g| !g.holds) {
        let missing = guarantee.missing.clone().unwrap_or_default();
        out.note(format!(
            "          not held here: {} ({missing}; `stockade doctor`)",
            guarantee.name.as_str()
        ));
    }
}

/// Passes the signals that a caller may send on to the command.
fn forward_signals(controller: Controller) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])
        .context("cannot watch for signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut terminations = 0;
            for signal in signals.forever() {
                controller.signal(signal);
                if signal == SIGTERM || signal == SIGHUP {
                    terminations += 1;
                }
                // Who asks a second time means it.
                if terminations >= 2 {
                    controller.abort("it was asked to end twice");
                }
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}

/// The programs of the session that read from its terminal, as the relay asks for them.
#[derive(Debug)]
struct Watched(TerminalReaders);

impl Readers for Watched {
    fn events(&self) -> BorrowedFd<'_> {
        self.0.events()
    }

    fn forget(&self) {
        self.0.forget();
    }

    fn are_there(&self) -> bool {
        self.0.are_there()
    }

    fn changed_modes(&self) -> bool {
        self.0.changed_modes()
    }
}

/// Rows and columns of a terminal that is gone.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// The recording of a session's terminal, as the relay writes to it.
#[derive(Debug)]
struct Recorded(TerminalRecording);

impl Recording for Recorded {
    fn output(&mut self, bytes: &[u8]) {
        self.0.output(bytes);
    }

    fn resized(&mut self, rows: u16, columns: u16) {
        self.0.resized(rows, columns);
    }
}

/// Begins the recording of a session's terminal, if policy asks for one.
fn record(running: &mut Running, hold: Hold) -> anyhow::Result<Option<Box<dyn Recording>>> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let terminal = RecordedTerminal {
        size: hold.size().unwrap_or(USUAL_SIZE),
        term: variable("TERM"),
        shell: variable("SHELL"),
    };
    let recording = running
        .record_terminal(&terminal)
        .context("cannot record the terminal, as `record.terminal` asks")?;
    Ok(recording.map(|recording| -> Box<dyn Recording> { Box::new(Recorded(recording)) }))
}

/// How a session ended, why output of its command could not be written, and who is interrupted with
/// us if the command was.
type End = (Ended, Option<io::Error>, WholeGroup);

/// Returns also why output could not be written. That nobody reads it any more is no such reason:
/// the command learns that itself. `beside` has the standard streams where they are not the terminal
/// as a whole.
fn in_terminal(
    mut running: Running,
    beside: Option<Streams>,
    out: &mut Output,
) -> anyhow::Result<End> {
    let master = running
        .take_terminal()
        .context("the session has no terminal")?;
    let options = RelayOptions {
        color: if out.color() {
            Color::Ansi
        } else {
            Color::None
        },
        term: std::env::var("TERM").unwrap_or_default(),
        agent: running.command_process(),
        keep: keep_answer,
    };
    let hold = beside.map_or(Hold::Whole, |_| Hold::Beside);
    let pipes = relay_pipes(&mut running);
    let begun = pipes.and_then(|pipes| Ok((pipes, record(&mut running, hold)?)));
    let (pipes, recording) = match begun {
        Ok(begun) => begun,
        Err(error) => return Err(end(running, error)),
    };
    let desk = running.desk();
    let started = match beside {
        None => relay(master, desk, &options, recording).map_err(Into::into),
        Some(streams) => running
            .terminal_readers(master.as_fd(), streams)
            .context("cannot watch the terminal")
            .and_then(|readers| {
                Ok(relay_beside(
                    master,
                    Box::new(Watched(readers)),
                    desk,
                    &options,
                    recording,
                )?)
            }),
    };
    let relay = match started {
        Ok(relay) => relay,
        Err(error) => return Err(end(running, error)),
    };
    let (ended, is_interrupted) = running.wait_then(|| relay.finish());
    let group = if is_interrupted {
        WholeGroup::Yes
    } else {
        WholeGroup::No
    };
    Ok((ended, pipes.finish().err(), group))
}

/// As [`in_terminal`].
fn through_pipes(mut running: Running) -> anyhow::Result<End> {
    let pipes = match relay_pipes(&mut running) {
        Ok(pipes) => pipes,
        Err(error) => return Err(end(running, error)),
    };
    let ended = running.wait();
    // A key of the terminal reaches our whole group by itself.
    Ok((ended, pipes.finish().err(), WholeGroup::No))
}

fn relay_pipes(running: &mut Running) -> anyhow::Result<PipeRelay> {
    let pipes = running.take_pipes();
    let ends = PipeEnds {
        // In the background nothing can be read from a terminal; the command sees the end.
        stdin: pipes.stdin.filter(|_| !terminals::is_in_background()),
        stdout: pipes.stdout,
        stderr: pipes.stderr,
    };
    PipeRelay::start(ends).context("cannot relay the standard streams")
}
