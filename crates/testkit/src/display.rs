//! Other people's terminal emulators, on their own X display without a screen.
//!
//! Keys are sent through the X server's test extension, as if from a keyboard; the emulator's
//! drawing is not read.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    env::TestEnv,
    processes,
    run::{Run, require_tool},
};

/// An X server; dropping it ends the server.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
}

impl Display {
    /// Starts a server on a free display.
    pub fn start(env: &TestEnv) -> Self {
        let server = env.command(require_tool("Xvfb").display().to_string());
        let arguments = [
            "-displayfd",
            "1",
            "-screen",
            "0",
            "900x700x24",
            "-nolisten",
            "tcp",
        ];
        let mut command = server.args(arguments).into_command();
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let mut server = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("Xvfb can be started");
        let said = server.stdout.take().expect("its output is ours");
        let mut number = String::new();
        // It prints its number once it is ready, or ends.
        let read = BufReader::new(said).read_line(&mut number);
        assert!(
            read.is_ok() && number.trim().parse::<u32>().is_ok(),
            "Xvfb has not started: {number:?}"
        );
        let name = format!(":{}", number.trim());
        Self { server, name }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A terminal emulator with a program in it; dropping it ends both.
#[derive(Debug)]
pub struct Emulator<'a> {
    env: &'a TestEnv,
    display: Display,
    child: Child,
}

impl<'a> Emulator<'a> {
    /// Starts the emulator `name` with a shell command line. `TERM` is what the emulator sets.
    pub fn start(env: &'a TestEnv, name: &str, line: &str) -> Self {
        require_tool("xdotool");
        let program = require_tool(name).display().to_string();
        let display = Display::start(env);
        let run = env.command(program).env("DISPLAY", &display.name);
        let run = run.env_remove("TERM").env("STOCKADE", env.binary());
        let mut command = run.args(["-e", "/bin/sh", "-c", line]).into_command();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("an emulator can be started");
        Self {
            env,
            display,
            child,
        }
    }

    /// Types text with a pause after each key; a line break is Enter.
    pub fn type_text(&self, text: &str, pause: Duration) {
        let pause = pause.as_millis().to_string();
        self.tell(&["type", "--delay", &pause, "--", text]);
    }

    /// Presses a key by its X name.
    pub fn press(&self, key: &str) {
        self.tell(&["key", "--", key]);
    }

    fn tell(&self, arguments: &[&str]) {
        let tool = || -> Run {
            self.env
                .command("xdotool")
                .env("DISPLAY", &self.display.name)
        };
        // Without a window manager keys go to the window below the pointer.
        tool()
            .args(["mousemove", "60", "60"])
            .output()
            .assert_success();
        tool().args(arguments).output().assert_success();
    }
}

impl Drop for Emulator<'_> {
    fn drop(&mut self) {
        processes::signal_group(self.child.id(), Signal::KILL);
        drop(self.child.wait());
    }
}
