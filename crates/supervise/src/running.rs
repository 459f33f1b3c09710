//! The current program of a process, compared with the judged one.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use stockade_policy::ExecRequest;
use stockade_types::{Digest, ProcessId, RawText};

use super::program_file::ProgramFile;
use crate::{blanked, lanes, procfs};

/// A permitted execution.
pub(crate) struct Expected {
    /// The process.
    pub(super) id: ProcessId,
    /// The beginning of its stack before: until this changes, it has not happened.
    pub(super) stack: u64,
    /// Device and inode of the judged file; of the interpreter, if it is a script.
    pub(super) file: (u64, u64),
    /// Those of the named file; of the script, if it is one.
    pub(super) named: (u64, u64),
    /// The absolute path that led to the named file, if there was one.
    pub(super) asked: Option<PathBuf>,
    /// Its content, if the verdict may have depended on it and it could still change: from now on
    /// the kernel keeps it unchanged.
    pub(super) content: Option<Digest>,
    /// The judged request.
    pub(super) request: ExecRequest,
    /// Whether it depends on an answer, which binds its variables too.
    pub(super) by_answer: bool,
    /// Whether the kernel puts an interpreter in front of the arguments.
    pub(super) script: bool,
}

/// The program of a process that differs from the judged one.
pub(super) struct Actual {
    /// Its file; an error if it cannot be read.
    pub(super) file: io::Result<ProgramFile>,
    pub(super) argv: Vec<RawText>,
    pub(super) judged: ExecRequest,
}

/// The result of checking one execution.
pub(super) enum Seen {
    AsJudged,
    Different(Box<Actual>),
    NotYet,
    Gone,
}

/// Checks whether an execution has happened, and with which program.
pub(super) fn look(expected: &Expected) -> Seen {
    let pid = expected.id.pid;
    let hidden = match Running::of(pid) {
        Ok(running) if running.is_whole(expected) => return Seen::AsJudged,
        Ok(_) => false,
        Err(error) if is_hidden(&error) => true,
        Err(_) => return Seen::Gone,
    };
    // Only now does it matter whether it has happened, and to the same process. The kernel moves
    // the stack before the new program runs, and the reads below wait for the rest. The judged
    // program was readable, so an unreadable one has come after it.
    match procfs::of_process(pid) {
        Ok(now) if now.id != expected.id => return Seen::Gone,
        Ok(_) if hidden => {}
        Ok(now) if now.stack == 0 || now.stack == expected.stack => return Seen::NotYet,
        Ok(_) => {}
        Err(_) => return Seen::Gone,
    }
    let file = ProgramFile::of_process(pid);
    let argv = match (Running::of(pid), &file) {
        (Ok(running), _) if running.is_whole(expected) => return Seen::AsJudged,
        (Ok(running), Ok(_)) => procfs::as_arguments(&running.command_line),
        (Err(error), Err(_)) if is_hidden(&error) => procfs::command_line(pid),
        _ => return Seen::Gone,
    };
    Seen::Different(Box::new(Actual {
        file,
        argv,
        judged: expected.request.clone(),
    }))
}

/// Whether the kernel hides a process from us: it runs a file that its user may not read.
fn is_hidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The current program of a process.
struct Running {
    /// Device and inode of its image.
    image: (u64, u64),
    /// Its arguments, as `/proc` has them.
    command_line: Vec<u8>,
}

impl Running {
    fn of(pid: u32) -> io::Result<Self> {
        let metadata = fs::metadata(format!("/proc/{pid}/exe"))?;
        Ok(Self {
            image: (metadata.dev(), metadata.ino()),
            command_line: once_there(|| procfs::command_line_bytes(pid)),
        })
    }

    fn is(&self, expected: &Expected) -> bool {
        let judged = &expected.request.argv;
        let now = procfs::as_arguments(&self.command_line);
        // A script's arguments come after its interpreter's.
        let own = judged.get(1..).unwrap_or_default();
        let same_arguments = if expected.script {
            now.len() > own.len() && now.ends_with(own)
        } else {
            procfs::same_command_line(&now, judged)
        };
        let compared = if expected.script { own } else { judged };
        let are_blanked = || blanked::are_blanked(&self.command_line, compared, expected.script);
        self.image == expected.file && (same_arguments || are_blanked())
    }

    /// Whether it also has the judged content, and the variables if an answer binds them: they lie
    /// in memory that others can change between our read and the kernel's.
    fn is_whole(&self, expected: &Expected) -> bool {
        let content = || ProgramFile::of_process(expected.id.pid).and_then(|file| file.digest());
        self.is(expected)
            && (!expected.by_answer || environment_of(expected) == expected.request.environment)
            && expected
                .content
                .is_none_or(|judged| content().is_ok_and(|now| now == judged))
    }
}

/// How often, and after which pause, missing data is read again.
const LOOKS_MAX: usize = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Reads arguments or variables of a process. The kernel moves the stack of an execution
/// (`setup_arg_pages`) before it sets their addresses (`create_elf_tables`), and in between there
/// are none: an empty result is read again, for a while.
fn once_there<T>(read: impl Fn() -> Vec<T>) -> Vec<T> {
    let mut found = read();
    for _ in 0..LOOKS_MAX {
        if !found.is_empty() {
            break;
        }
        lanes::slow();
        std::thread::sleep(LOOK_PAUSE);
        found = read();
    }
    found
}

/// Reads the current variables of a process, which can be none.
fn environment_of(expected: &Expected) -> Vec<(RawText, RawText)> {
    let read = || procfs::environment(expected.id.pid).unwrap_or_default();
    if expected.request.environment.is_empty() {
        read()
    } else {
        once_there(read)
    }
}
