//! Examines processes from the host side.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use memchr::memmem;
use rustix::process::{Pid, kill_process, kill_process_group};

pub use rustix::process::Signal;

/// Returns the ids of all processes that have exactly `argument` in their argument vector.
///
/// A test gives its program a unique argument (`sleep 60.123`), and so can find it again, even
/// inside namespaces. Zombies have no argument vector and are not found.
pub fn with_argument(argument: &str) -> Vec<u32> {
    with(|pid| {
        // A process that ends during the check no longer has the argument.
        let line = fs::read(process(pid).join("cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0)
            .any(|word| word == argument.as_bytes())
    })
}

/// Returns the ids of all processes whose program or working directory is below `directory`, as far
/// as this user may examine them.
pub fn living_in(directory: &Path) -> Vec<u32> {
    with(|pid| {
        let below = |link: &str| {
            let path = fs::read_link(process(pid).join(link));
            path.is_ok_and(|path| path.starts_with(directory))
        };
        below("exe") || below("cwd")
    })
}

/// Kills one process; does nothing if it has ended.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let sent = kill_process(pid.expect("the id of a process is positive"), Signal::KILL);
    assert!(
        matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)),
        "cannot kill {pid:?}: {sent:?}"
    );
}

/// Returns the ids of all descendants of `pid` at this moment.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let tasks = fs::read_dir(process(parent).join("task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
        at += 1;
    }
    found.split_off(1)
}

/// Sends a signal to the process group `group`; does nothing if it has ended.
pub fn signal_group(group: u32, signal: Signal) {
    let group = i32::try_from(group).ok().and_then(Pid::from_raw);
    let sent = kill_process_group(group.expect("the id of a group is positive"), signal);
    assert!(
        matches!(sent, Ok(()) | Err(rustix::io::Errno::SRCH)),
        "cannot send {signal:?} to {group:?}: {sent:?}"
    );
}

/// Tells which of `texts` are in the memory of a process that its programs can write, or in its first
/// environment; as far as this user may read them.
pub fn memory_has(pid: u32, texts: &[&str]) -> Vec<bool> {
    let environment = fs::read(process(pid).join("environ")).unwrap_or_default();
    let mut all = vec![environment];
    let maps = fs::read_to_string(process(pid).join("maps")).unwrap_or_default();
    let memory = fs::File::open(process(pid).join("mem")).ok();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((start, end)) = range.and_then(|(a, b)| Some((number(a)?, number(b)?))) else {
            continue;
        };
        all.extend(memory.as_ref().map(|memory| part(memory, start, end)));
    }
    let has = |text: &&str| {
        let finder = memmem::Finder::new(text.as_bytes());
        all.iter().any(|bytes| finder.find(bytes).is_some())
    };
    texts.iter().map(has).collect()
}

/// Reads a part of a process's memory, up to the first page that is not there.
fn part(memory: &fs::File, start: u64, end: u64) -> Vec<u8> {
    const STEP: usize = 1 << 20;
    let mut found = Vec::new();
    let mut at = start;
    while at < end {
        let step = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
        let mut bytes = vec![0; step];
        match memory.read_at(&mut bytes, at) {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                found.extend_from_slice(bytes.get(..read).unwrap_or_default());
                at += u64::try_from(read).unwrap_or(u64::MAX);
            }
        }
    }
    found
}

fn with(look: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| look(pid)).collect()
}

fn process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{descendants, with_argument};
    use crate::{Run, wait};

    #[test]
    fn a_process_and_its_children_are_found() {
        let marker = format!("30.{}3", std::process::id());
        assert!(with_argument(&marker).is_empty());
        let running = Run::new("/bin/sh")
            .arg("-c")
            .arg(format!("/bin/sleep {marker}; :"))
            .spawn();
        let sleeping = wait::until(Duration::from_secs(5), || with_argument(&marker).pop());
        assert_eq!(descendants(running.pid()), [sleeping.unwrap()]);
        drop(running);
        let gone = || with_argument(&marker).is_empty();
        assert!(wait::until_true(Duration::from_secs(5), gone));
    }
}
