//! `stockade`: one binary, one file per command, and the hidden roles of a session's own processes.
#![forbid(unsafe_code)]

mod archive;
mod commands;
mod environment;
mod exit;
mod host_sets;
mod human;
mod kept_caches;
mod layers;
mod output;
mod own_places;
mod prompt;
mod retention;
mod rules;
mod state;
mod why;

use std::process::ExitCode;
use stockade_types::ignored;

use clap::{CommandFactory, Parser};

use crate::{exit::Exit, human::safe_lines, output::Output};

fn main() -> ExitCode {
    // Roles come first: their processes are single-threaded and skip a command's set-up.
    if let Some(code) = role() {
        return ExitCode::from(code);
    }
    let mut out = Output::detect();
    match commands::Cli::try_parse() {
        Ok(cli) => finish(cli.run(&mut out), &mut out),
        Err(error) => {
            // For the caller of `run`, 2 would be the command's own code.
            let is_run = std::env::args_os().nth(1).is_some_and(|name| name == "run");
            let code = match (error.use_stderr(), is_run) {
                (false, _) => Exit::Yes,
                (true, true) => Exit::Run(commands::run::NOT_STARTED),
                (true, false) => Exit::Usage,
            };
            ignored(
                error.print(),
                "it fails only if the terminal is closed, and then no message can be shown",
            );
            ExitCode::from(code.code())
        }
    }
}

/// Runs a hidden role if this process was started as one.
fn role() -> Option<u8> {
    let mut arguments = std::env::args_os();
    let own_name = arguments.next()?;
    let own_name = std::path::Path::new(&own_name)
        .file_name()?
        .to_str()?
        .to_owned();
    let rest = |arguments: std::env::ArgsOs| {
        arguments
            .map(|a| a.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    match own_name.as_str() {
        "why" => return Some(why::main()),
        "hook" => return u8::try_from(stockade_runner::hook_main(&rest(arguments))).ok(),
        "mcp" => {
            let arguments: Vec<_> = arguments.collect();
            return u8::try_from(stockade_runner::mcp_main(&arguments)).ok();
        }
        _ => {}
    }
    let name = arguments.next()?;
    let code = match name.to_str()? {
        "__init" => stockade_runner::init_main(&rest(arguments)),
        "__egress" => stockade_runner::egress_main(&rest(arguments)),
        "__reviewer" => stockade_runner::reviewer_main(),
        _ => return None,
    };
    Some(u8::try_from(code).unwrap_or(125))
}

/// Prints an error with its causes, once, and returns the exit code.
fn finish(result: anyhow::Result<Exit>, out: &mut Output) -> ExitCode {
    match result {
        Ok(exit) => {
            if let Exit::Interrupted(whole_group) = exit {
                stockade_terminal::job::end_interrupted(whole_group);
            }
            ExitCode::from(exit.code())
        }
        Err(error) => {
            out.note(safe_lines(&format!("stockade: {error:#}")));
            ExitCode::from(Exit::CannotTell.code())
        }
    }
}

/// Returns the command line's definition, for completions, man pages and the reference.
fn definition() -> clap::Command {
    commands::Cli::command()
}
