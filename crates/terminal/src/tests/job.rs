//! Ctrl-Z with a real session leader on a real pty.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{super::job, relay::pty};

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a shell line as the leader of a session of its own, with the pty as its terminal.
fn start(line: &str) -> (OwnedFd, Child) {
    let (master, slave) = pty();
    let child = Command::new("setsid")
        .args(["--ctty", "--wait", "sh", "-c", line])
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    (master, child)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until `end` is there.
fn read_to(master: &OwnedFd, end: &str) {
    let mut text = String::new();
    let mut file = File::from(master.try_clone().unwrap());
    until(end, || {
        let mut buffer = [0; 64];
        let count = file.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        text.contains(end).then_some(())
    });
}

#[test]
fn an_agent_that_stopped_is_found_and_goes_on() {
    // By itself: the kernel ignores Ctrl-Z for a leader without a parent in its session.
    let (master, mut child) =
        start("echo ready; read line; kill -STOP $$; read line; echo resumed");
    read_to(&master, "ready");
    assert_eq!(job::stopped_group(master.as_fd(), None), None, "it runs");
    File::from(master.try_clone().unwrap())
        .write_all(b"\n")
        .unwrap();
    let group: Pid = until("the stop", || job::stopped_group(master.as_fd(), None));
    job::resume(group);
    until("going on", || {
        job::stopped_group(master.as_fd(), None)
            .is_none()
            .then_some(())
    });
    File::from(master.try_clone().unwrap())
        .write_all(b"\n")
        .unwrap();
    read_to(&master, "resumed");
    drop(master);
    child.wait().unwrap();
}

#[test]
fn a_stop_below_a_job_control_shell_is_left_to_that_shell() {
    let (master, mut child) = start("set -m; echo ready; sleep 60; echo back; read line");
    read_to(&master, "ready");
    // Wait until the job has the foreground, then stop it.
    until("the job", || {
        let foreground = rustix::termios::tcgetpgrp(&master).ok()?;
        (foreground != rustix::termios::tcgetsid(&master).ok()?).then_some(())
    });
    File::from(master.try_clone().unwrap())
        .write_all(b"\x1a")
        .unwrap();
    read_to(&master, "back");
    assert_eq!(job::stopped_group(master.as_fd(), None), None);
    child.kill().unwrap();
    drop(master);
    child.wait().unwrap();
}
