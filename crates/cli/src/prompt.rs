//! Questions to the person at the terminal: a yes, and a passphrase that is not shown.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Bytes of a line that a person types, and of a file with a passphrase.
const LINE_BYTES_MAX: u64 = 1024;

/// Tells whether a person can be asked: what is typed and what is said are of a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and returns whether exactly `yes` was typed.
///
/// # Errors
/// When the terminal cannot be read.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    say(question)?;
    Ok(line()?.trim() == "yes")
}

/// Asks for a passphrase, which the terminal does not show.
///
/// # Errors
/// When the terminal cannot be read, or cannot be kept from showing it.
pub(crate) fn passphrase(question: &str) -> anyhow::Result<String> {
    say(question)?;
    let quiet = Quiet::begin()?;
    let typed = line();
    drop(quiet);
    say("\n")?;
    Ok(typed?.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a passphrase from a file, or from standard input for `-`: its first line.
///
/// # Errors
/// When it cannot be read, or is empty.
pub(crate) fn passphrase_of(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin()
            .lock()
            .take(LINE_BYTES_MAX)
            .read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(LINE_BYTES_MAX).read_to_string(&mut text))
    };
    read.context("cannot read the passphrase")?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("the passphrase is empty; its file has it in the first line");
    }
    Ok(line.to_owned())
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stderr().lock();
    let said = write!(out, "{text}").and_then(|()| out.flush());
    said.context("cannot write to the terminal")
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    let mut input = io::stdin().lock().take(LINE_BYTES_MAX);
    input
        .read_line(&mut line)
        .context("cannot read from the terminal")?;
    Ok(line)
}

/// The terminal does not show what is typed as long as this is there.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's state")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)
            .context("cannot keep the terminal from showing the passphrase")?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        stockade_types::ignored(
            tcsetattr(io::stdin(), OptionalActions::Flush, &self.0),
            "a terminal that is gone needs no state",
        );
    }
}
