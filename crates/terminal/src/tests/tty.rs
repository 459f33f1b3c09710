use std::{os::fd::AsFd, time::Instant};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::{super::tty::Tty, relay::pty};

/// What poll has promised may be gone: another reader was faster, or the line was flushed. A read
/// that waits then holds the box of a question and the output of the agent.
#[test]
fn a_read_never_waits_for_a_key() {
    let (person, slave) = pty();
    let mut raw = tcgetattr(&slave).unwrap();
    raw.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &raw).unwrap();
    let tty = Tty::of(slave.as_fd(), slave.as_fd()).unwrap();
    let begun = Instant::now();
    let mut buffer = [0; 16];
    assert_eq!(tty.read(&mut buffer).unwrap(), None);
    rustix::io::write(&person, b"ab").unwrap();
    assert_eq!(tty.read(&mut buffer).unwrap(), Some(2));
    assert_eq!(tty.read(&mut buffer).unwrap(), None);
    // Our opening alone does not wait: the flag of the shell's is as it was.
    let flags = rustix::fs::fcntl_getfl(&slave).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    drop(person);
    assert!(
        matches!(tty.read(&mut buffer), Ok(Some(0)) | Err(_)),
        "it is gone"
    );
    assert!(begun.elapsed().as_secs() < 5);
}
