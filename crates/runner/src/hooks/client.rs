//! `/run/stockade/hook AGENT`: what an agent starts before and after a tool call.
//!
//! It passes what the agent tells to the supervisor, and the answer back in the agent's own form.
//! Whatever keeps it from that denies, except for tools that are known to read: what those do is judged
//! where they do it, as all the others' is, and an agent that can do nothing cannot say what is wrong.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::AsFd, unix::net::UnixStream},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags, Timespec};
use stockade_agents::{
    BODY_BYTES_MAX, HookAgent, HookAnswer, HookError, HookMessage, HookOutput, HookReader, ToolUse,
};
use stockade_policy::tool_effect;
use stockade_types::{ToolEffect, ignored};

use super::{
    PLACE,
    limits::{ANSWER_BYTES_MAX, ANSWER_WAIT, CLIENT_WAIT, PIECE_BYTES, STDIN_WAIT},
    reply::{Reply, head},
};

/// Does what the agent started the hook for; returns the exit code.
pub fn hook_main(arguments: &[String]) -> i32 {
    let agent = match arguments {
        [name] => HookAgent::named(name),
        [] | [..] => None,
    };
    let output = match agent {
        Some(agent) => answer(agent),
        None => HookOutput {
            stdout: String::new(),
            stderr: usage(),
            code: 2,
        },
    };
    ignored(
        io::stdout().write_all(output.stdout.as_bytes()),
        "an agent that does not read it has ended",
    );
    ignored(
        io::stderr().write_all(output.stderr.as_bytes()),
        "an agent that does not read it has ended",
    );
    i32::from(output.code)
}

fn usage() -> String {
    let names: Vec<&str> = HookAgent::ALL.into_iter().map(HookAgent::name).collect();
    format!(
        "usage: hook AGENT, with what the agent tells on standard input; agents: {}\n",
        names.join(", ")
    )
}

/// Reads what the agent tells, has it answered, and writes the answer as the agent reads it.
fn answer(agent: HookAgent) -> HookOutput {
    let told = match read_told() {
        Ok(told) => told,
        Err(error) => return failed(agent, None, &format!("reading standard input: {error}")),
    };
    let message = match read_message(agent, &told) {
        Ok(message) => message,
        Err(error) => return failed(agent, None, &error.to_string()),
    };
    match ask(agent, &told) {
        Ok(Reply::GoOn) => agent.output(Some(&message), &HookAnswer::GoOn),
        Ok(Reply::Deny { reason }) => agent.output(Some(&message), &HookAnswer::Deny { reason }),
        Ok(Reply::Failed { reason }) => failed(agent, Some(&message), &reason),
        Err(error) => failed(
            agent,
            Some(&message),
            &format!("asking at {PLACE}: {error}"),
        ),
    }
}

/// Says what happens if nobody could be asked.
fn failed(agent: HookAgent, message: Option<&HookMessage>, why: &str) -> HookOutput {
    let reason = format!(
        "the hook of this boundary failed, so a tool that can write or execute is not called: {why}\n"
    );
    let answer = match message {
        Some(HookMessage::Before { tool, .. }) if goes_on(tool) => HookAnswer::GoOn,
        Some(
            HookMessage::Before { .. }
            | HookMessage::After { .. }
            | HookMessage::Prompt(_)
            | HookMessage::Other,
        )
        | None => HookAnswer::Deny { reason },
    };
    agent.output(message, &answer)
}

/// Tells whether a call goes on although nobody could be asked about it: only one of a tool that is
/// known to read.
fn goes_on(tool: &ToolUse) -> bool {
    tool.server.is_none() && tool_effect(tool.tool.as_bytes()) == ToolEffect::Read
}

fn read_message(agent: HookAgent, told: &[u8]) -> Result<HookMessage, HookError> {
    let mut reader = HookReader::new(agent);
    reader.feed(told)?;
    reader.finish()
}

/// Reads standard input to its end.
fn read_told() -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let until = Instant::now() + STDIN_WAIT;
    let mut told = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        if rustix::event::poll(&mut polled, Some(&wait))? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not end within {} seconds", STDIN_WAIT.as_secs()),
            ));
        }
        let count = stdin.lock().read(&mut piece)?;
        let Some(new) = piece.get(..count).filter(|new| !new.is_empty()) else {
            return Ok(told);
        };
        told.extend_from_slice(new);
        // One byte more than is taken, so that it is refused as too long and not as cut.
        if u64::try_from(told.len()).unwrap_or(u64::MAX) > BODY_BYTES_MAX {
            return Ok(told);
        }
    }
}

/// Passes what the agent tells to the supervisor, and waits for the answer.
fn ask(agent: HookAgent, told: &[u8]) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(PLACE)?;
    stream.set_write_timeout(Some(CLIENT_WAIT))?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    // Who is turned away learns why, although nobody read what it said.
    let sent = stream
        .write_all(head(agent).as_bytes())
        .and_then(|()| stream.write_all(told))
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut text = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    match serde_json::from_slice(&text) {
        Ok(reply) => Ok(reply),
        Err(error) => {
            sent?;
            read?;
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}
