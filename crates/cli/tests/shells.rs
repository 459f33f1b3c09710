//! Login shells inside find the programs that the caller finds.

use std::{fs, os::unix::fs::PermissionsExt as _};

use stockade_testkit::{TestEnv, env::User};

/// Agents start commands with `bash -lc`: `/etc/profile` resets the search path, and the caller's
/// own start-up files, which would repair it, are not inside.
#[test]
fn login_shells_search_where_the_caller_does() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let tool = env.write(
            env.home().join(".local/bin/mytool"),
            "#!/bin/sh\necho found\n",
        );
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("just written");
        let path = format!(
            "{}/.local/bin:/usr/bin:/bin:/opt/it's",
            env.home().display()
        );
        let shells = ["bash", "sh", "zsh"];
        let shells = shells.iter().filter(|shell| {
            let there = fs::metadata(format!("/bin/{shell}")).is_ok();
            if !there {
                eprintln!("not tried: `{shell}` is not on this machine");
            }
            there
        });
        for shell in shells {
            let line = format!("{shell} -lc mytool && {shell} -lc 'echo \"$PATH\"'");
            let output = env
                .session(repo.path())
                .env("PATH", &path)
                .line(&line)
                .output();
            let expected = format!("found\n{path}\n");
            output.assert_success().assert_stdout(&expected);
        }
        // Lines that a session adds to such a file are its own.
        let output = env
            .session(repo.path())
            .line("echo 'export MINE=1' > ~/.profile.new && mv ~/.profile.new ~/.profile && bash -lc 'echo $MINE'")
            .output();
        output.assert_success().assert_stdout("1\n");
        assert!(!env.home().join(".profile").exists());
    }
}
