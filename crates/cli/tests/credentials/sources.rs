//! Where values come from, and what is said of a source that has none.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use stockade_testkit::TestEnv;

use super::lab::{Lab, VALUE, for_each_user};

/// A file and a command give the value; neither is inside.
#[test]
fn files_and_commands_give_the_value() {
    for_each_user(|env| {
        let file = env.write("home/.config/svc/token", &format!("{VALUE}\nsecond line\n"));
        let script = format!("#!/bin/sh\necho told >&2\necho '{VALUE}'\necho second line\n");
        let script = env.write("print-token", &script);
        for (path, mode) in [(&file, 0o600), (&script, 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let command = script.display();
        for source in [
            "{ file = \"~/.config/svc/token\" }".to_owned(),
            format!("{{ file = \"{}\" }}", file.display()),
            format!("{{ exec = [\"{command}\"] }}"),
            format!("{{ exec = [\"/bin/sh\", \"-c\", \"exec {command}\"] }}"),
        ] {
            let lab = Lab::new(
                env,
                &format!("kind = \"bearer\"\nsource = {source}\nas = \"INNER\"\n"),
            );
            let line = format!(
                "curl -sS -m 10 --oauth2-bearer \"$INNER\" GOOD/x; env; cat ~/.config/svc/token {} {command}",
                file.display()
            );
            let output = lab.run(env, &line);
            let expected = Some(format!("Bearer {VALUE}"));
            assert_eq!(lab.got("authorization"), [expected], "{output:?}");
            let seen = [output.stdout.as_str(), &output.stderr].concat();
            assert!(!seen.contains(VALUE), "{source}: {seen}");
            let told = usize::from(source.contains("exec"));
            assert_eq!(output.stderr.matches("told\n").count(), told, "{output:?}");
            assert!(!format!("{:?}", env.record()).contains(VALUE));
        }
    });
}

/// Makes the files of sources that give no value; returns each source with what is said of it.
fn wrong(env: &TestEnv) -> Vec<(String, &'static str)> {
    let write = |name: &str, text: &str, mode: u32| {
        let path = env.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        format!("{{ file = \"{}\" }}", path.display())
    };
    let directory = env.root().join("directory");
    fs::create_dir(&directory).expect("it is ours");
    env.own(&directory);
    let pipe = env.root().join("pipe");
    env.command("mkfifo").arg(&pipe).success();
    let file = |path: &Path| format!("{{ file = \"{}\" }}", path.display());
    let shell = |text: &str| format!("{{ exec = [\"/bin/sh\", \"-c\", \"{text}\"] }}");
    let bytes = write("bytes", "", 0o600);
    fs::write(env.root().join("bytes"), b"hunter2\xff\xfe-and-more\n").expect("it is ours");
    let mut wrong = vec![
        (
            write("open", VALUE, 0o644),
            "can be read or changed by everybody; make it `chmod 600`",
        ),
        (
            write("short", "hunter2\n", 0o600),
            "has 7 bytes, and a credential has at least 8",
        ),
        (
            write("long", &"hunter2!".repeat(2000), 0o600),
            "is longer than 8192 bytes",
        ),
        (
            write("control", "hunter2\u{7}-and-more\n", 0o600),
            "has characters that no request can have",
        ),
        (bytes, "cannot be read: stream did not contain valid UTF-8"),
        (file(&directory), "is no file"),
        (file(&pipe), "is no file"),
        (
            file(Path::new("/nowhere/token")),
            "cannot be read: No such file",
        ),
        (shell("echo hunter2-more; exit 3"), "failed: exit status: 3"),
        (shell("kill -9 $$"), "failed: signal: 9"),
        (shell(":"), "has 0 bytes, and a credential has at least 8"),
        (shell("echo; echo hunter2-more"), "has 0 bytes"),
        (shell("yes hunter2-more"), "is longer than 8192 bytes"),
        (
            "{ exec = [\"/nowhere/program\"] }".to_owned(),
            "cannot be run: No such file",
        ),
        ("{ env = \"NOT_SET\" }".to_owned(), "is not set"),
        ("{ env = \"SHORT\" }".to_owned(), "has 7 bytes"),
    ];
    if !env.is_root() {
        let locked = write("locked", VALUE, 0o000);
        wrong.push((locked, "cannot be read: Permission denied"));
    }
    wrong
}

/// A source without a usable value ends the start with what is wrong there and what to do; nothing
/// has run, and no message has the value or a part of it.
#[test]
fn a_source_without_a_value_is_an_error_before_the_start() {
    for_each_user(|env| {
        for (source, why) in wrong(env) {
            let lab = Lab::new(env, &format!("kind = \"bearer\"\nsource = {source}\n"));
            let run = lab.start(env, "echo it ran").env("SHORT", "hunter2");
            let output = run.output();
            assert_ne!(output.code(), 0, "{source}: {output:?}");
            assert!(!output.stdout.contains("it ran"), "{source}: {output:?}");
            let remedy = "put the value there, or take the `[[credential]]` out of the policy";
            output
                .assert_stderr("the credential `svc` has no value")
                .assert_stderr(why)
                .assert_stderr(remedy);
            let seen = [output.stdout.as_str(), &output.stderr].concat();
            let is_told = seen.contains("hunter2") && !source.contains("hunter2");
            assert!(!is_told && !seen.contains(VALUE), "{source}: {seen}");
            lab.good.assert_untouched();
        }
    });
}
