//! `/run/stockade/mcp SERVER PROGRAM [ARGUMENT]...`: starts a server of tools, and passes on what its client
//! and it say to each other.

use std::{
    io::{self, BufReader, Write as _},
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
};

use stockade_types::{RawText, ignored};

use super::{
    PLACE,
    limits::{CLIENT_WAIT, LAST_WORD_WAIT, OUTBOX_MAX, SERVER_BYTES_MAX},
    outbox::say,
    pipes::Pipes,
    wire::{self, Tell, Verdict},
};

/// Exit code if the server does not start, as of a shell that does not find a program.
const NOT_STARTED: i32 = 127;
/// What a shell adds to the number of the signal that ended a program.
const SIGNALLED: i32 = 128;

/// Starts the server and passes on what is said; returns the exit code.
pub fn mcp_main(arguments: &[std::ffi::OsString]) -> i32 {
    let (server, program, arguments) = match arguments {
        [server, program, arguments @ ..] if server.len() <= SERVER_BYTES_MAX => {
            (server, program, arguments)
        }
        _ => {
            say("usage: mcp SERVER PROGRAM [ARGUMENT]...");
            return 2;
        }
    };
    let server = RawText::from_bytes(server.as_encoded_bytes());
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            say(&format!("`{}` does not start: {error}", program.display()));
            return NOT_STARTED;
        }
    };
    let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return NOT_STARTED;
    };
    let (outbox, told) = mpsc::sync_channel(OUTBOX_MAX);
    let pipes = Arc::new(Pipes::new(to, outbox, server.clone()));
    if let Err(error) = connect(&pipes, server, told) {
        pipes.is_alone(&format!("asking at {PLACE}: {error}"));
    }
    let from_client = Arc::clone(&pipes);
    let spawned = thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || from_client.serve_client(io::stdin().lock()));
    if let Err(error) = spawned {
        say(&format!("no thread to read on: {error}"));
        ignored(child.kill(), "it has ended");
        return NOT_STARTED;
    }
    if pipes.serve_server(from).is_err() {
        // Nobody reads what it says any more.
        ignored(child.kill(), "it has ended");
    }
    code(&mut child)
}

fn code(child: &mut Child) -> i32 {
    match child.wait() {
        Ok(status) => {
            let signal = || status.signal().map(|signal| SIGNALLED + signal);
            status.code().or_else(signal).unwrap_or(NOT_STARTED)
        }
        Err(_) => NOT_STARTED,
    }
}

/// Begins to ask the supervisor.
fn connect(pipes: &Arc<Pipes>, server: RawText, told: Receiver<Tell>) -> io::Result<()> {
    let stream = UnixStream::connect(PLACE)?;
    stream.set_write_timeout(Some(CLIENT_WAIT))?;
    let mut to = stream.try_clone()?;
    to.write_all(&wire::line(&Tell::Begin { server })?)?;
    let teller = Arc::clone(pipes);
    thread::Builder::new()
        .name("teller".to_owned())
        .spawn(move || {
            for tell in told {
                let sent = wire::line(&tell).and_then(|line| to.write_all(&line));
                if let Err(error) = sent {
                    // It may have said why. What waits for an answer does not wait for ever.
                    thread::sleep(LAST_WORD_WAIT);
                    teller.is_alone(&format!("telling at {PLACE}: {error}"));
                    ignored(to.shutdown(std::net::Shutdown::Both), "it is over");
                    return;
                }
            }
        })?;
    let hearer = Arc::clone(pipes);
    thread::Builder::new()
        .name("hearer".to_owned())
        .spawn(move || {
            let mut from = BufReader::new(stream);
            let why = loop {
                match wire::next::<Verdict>(&mut from) {
                    Ok(Some(verdict)) => hearer.verdict(verdict),
                    Ok(None) => break "nobody answers any more".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            hearer.is_alone(&format!("asking at {PLACE}: {why}"));
        })?;
    Ok(())
}
