//! Arguments, variables, names of files and workspaces are bytes: those that are not text pass
//! unchanged, and the record has them without loss.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
};

use stockade_testkit::{TestEnv, env::User};

/// Not UTF-8, with a backslash that must stay one.
const ODD: &[u8] = b"n\xff\\xffm";

fn odd(front: &str) -> OsString {
    OsString::from_vec([front.as_bytes(), ODD].concat())
}

#[test]
fn bytes_that_are_no_text_go_through() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let workspace = env.root().join("work").join(odd("w"));
        std::fs::create_dir_all(&workspace).unwrap();
        std::fs::write(
            workspace.join(odd("run")),
            "#!/bin/sh\nprintf '%s|' \"$0\"\n",
        )
        .unwrap();
        env.own(&workspace);
        env.own(&workspace.join(odd("run")));
        let search = [b"/usr/bin:/bin:/opt/", ODD].concat();
        let line = "set -e; chmod +x run*; ./run*; printf '%s|' \"$1\" \"$LC_ODD\" \"$ODD\" \"$PWD\"; \
            echo x > \"f$1\"; mkdir \"d$1\"; mv \"f$1\" \"d$1/g$1\"; cat d*/g*; ln -s \"d$1\" \"l$1\"; \
            cat l*/g*; rm -r d* l*; echo y > \"k$1\"; bash -lc 'printf \"%s|\" \"$PATH\"'; \
            dash -lc 'printf \"%s|\" \"$PATH\"'; \"./$1\" || true";
        let run = env
            .session(&workspace)
            .args([OsStr::new("--env"), &odd("ODD=o")])
            .env("LC_ODD", odd("l"))
            .env("PATH", OsStr::from_bytes(&search))
            .args(["--", "/bin/sh", "-c", line, "sh"])
            .arg(odd(""));
        let output = run.output();
        let path = String::from_utf8_lossy(&search).into_owned();
        let shown = |front: &str| odd(front).to_string_lossy().into_owned();
        let place = workspace.to_string_lossy().into_owned();
        let expected = format!(
            "./{}|{}|{}|{}|{place}|x\nx\n{path}|{path}|",
            shown("run"),
            shown(""),
            shown("l"),
            shown("o"),
        );
        output.assert_stdout(&expected);
        assert_eq!(std::fs::read(workspace.join(odd("k"))).unwrap(), b"y\n");
        assert_eq!(std::fs::read_dir(&workspace).unwrap().count(), 2);
        // The record doubles a backslash, and writes a byte that is not text as `\xHH`.
        let text = r"n\xff\\xffm";
        let record = env.record();
        let has = |kind: &str, place: &str, wanted: &str| {
            let of_kind = record.iter().filter(|event| event.kind() == kind);
            of_kind.into_iter().any(|event| {
                let found = event
                    .json
                    .pointer(place)
                    .and_then(serde_json::Value::as_str);
                found.is_some_and(|found| found.ends_with(wanted))
            })
        };
        assert!(has("session.started", "/workspace", &format!("w{text}")));
        assert!(has("session.started", "/command/4", text));
    }
}

#[test]
fn a_plan_and_the_reports_have_them_without_loss() {
    let env = TestEnv::of(None);
    let workspace = env.root().join("work").join(odd("w"));
    std::fs::create_dir_all(&workspace).unwrap();
    let text = r"n\\xff\\\\xffm";
    let run = env.session_with(&workspace, &["--plan", "--json"]);
    let plan = run.args(["--", "printf"]).arg(odd("")).success().stdout;
    assert!(
        plan.contains(&format!("\"argv\":[\"printf\",\"{text}\"]")),
        "{plan}"
    );
    assert!(plan.contains(&format!("/w{text}\"")), "{plan}");
    let run = env.stockade().current_dir(&workspace);
    let run = run.args([
        "run",
        "--summary",
        "json",
        "--ask",
        "deny",
        "--",
        "/bin/sh",
        "-c",
    ]);
    let output = run.args(["echo x > \"$1\"", "sh"]).arg(odd("f")).success();
    let told = [output.stdout.as_str(), &output.stderr].concat();
    assert!(told.contains(&format!("/f{text}\":1")), "{told}");
    for command in [
        ["sessions", "--json"],
        ["show", "--json"],
        ["events", "--json"],
    ] {
        let told = env.stockade().args(command).success().stdout;
        assert!(told.contains(&format!("/w{text}\"")), "{command:?}: {told}");
    }
}
