use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use super::super::pipes::{PipeEnds, PipeRelay};

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

#[test]
fn streams_pass_whole_and_stay_apart() {
    let (caller_in, type_here) = pipe();
    let (agent_in, our_in) = pipe();
    let (our_out, agent_out) = pipe();
    let (our_err, agent_err) = pipe();
    let (read_out, caller_out) = pipe();
    let (read_err, caller_err) = pipe();
    let relay = PipeRelay::between(
        PipeEnds {
            stdin: Some(caller_in),
            stdout: Some(caller_out),
            stderr: Some(caller_err),
        },
        PipeEnds {
            stdin: Some(our_in),
            stdout: Some(our_out),
            stderr: Some(our_err),
        },
    )
    .unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let sent = bytes.clone();
    let feeder = std::thread::spawn(move || File::from(type_here).write_all(&sent).unwrap());
    // The agent copies its input to its output and says something on the other.
    let agent = std::thread::spawn(move || {
        let mut input = Vec::new();
        File::from(agent_in).read_to_end(&mut input).unwrap();
        File::from(agent_err).write_all(b"done").unwrap();
        File::from(agent_out).write_all(&input).unwrap();
    });
    let reader = std::thread::spawn(move || {
        let mut output = Vec::new();
        File::from(read_out).read_to_end(&mut output).unwrap();
        output
    });
    relay.finish().unwrap();
    feeder.join().unwrap();
    agent.join().unwrap();
    assert!(reader.join().unwrap() == bytes);
    let mut errors = String::new();
    File::from(read_err).read_to_string(&mut errors).unwrap();
    assert_eq!(errors, "done");
}

#[test]
fn an_open_input_does_not_keep_a_finished_run() {
    let (caller_in, _type_here) = pipe();
    let (_agent_in, our_in) = pipe();
    let (our_out, agent_out) = pipe();
    let (_read_out, caller_out) = pipe();
    let relay = PipeRelay::between(
        PipeEnds {
            stdin: Some(caller_in),
            stdout: Some(caller_out),
            stderr: None,
        },
        PipeEnds {
            stdin: Some(our_in),
            stdout: Some(our_out),
            stderr: None,
        },
    )
    .unwrap();
    drop(agent_out);
    relay.finish().unwrap();
}

#[test]
fn a_caller_that_reads_no_more_breaks_the_agents_pipe() {
    let (our_out, agent_out) = pipe();
    let (read_out, caller_out) = pipe();
    let relay = PipeRelay::between(
        PipeEnds {
            stdout: Some(caller_out),
            ..PipeEnds::default()
        },
        PipeEnds {
            stdout: Some(our_out),
            ..PipeEnds::default()
        },
    )
    .unwrap();
    drop(read_out);
    let mut agent = File::from(agent_out);
    let error = loop {
        if let Err(error) = agent.write_all(&[b'x'; 4096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    relay.finish().unwrap();
}
