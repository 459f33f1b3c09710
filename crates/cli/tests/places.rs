//! Places of projects on machines and in containers: each works as a workspace, or the message says
//! what to do.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use stockade_testkit::{TestEnv, env::User};

/// A directory of the machine that is removed with the test.
struct Borrowed(PathBuf);

impl Borrowed {
    /// Makes one.
    fn below(top: &str, env: &TestEnv) -> Option<Self> {
        let name = env.root().file_name()?.to_str()?;
        let path = PathBuf::from(top).join(format!("{name}-{}", top.len()));
        // In most of them only root can, and not every machine has all.
        fs::create_dir(&path).ok()?;
        env.own(&path);
        Some(Self(path))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn projects_below_directories_of_the_system_are_workspaces() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        for top in [
            "/opt",
            "/srv",
            "/usr/src",
            "/usr/local",
            "/usr/local/src",
            "/dev/shm",
            "/var/www",
        ] {
            let Some(place) = Borrowed::below(top, &env) else {
                continue;
            };
            // Other users cannot read it, but root's own session sees it.
            fs::set_permissions(&place.0, fs::Permissions::from_mode(0o700)).unwrap();
            let beside = place.0.with_extension("beside");
            let line = "set -e; git init -q; echo x > f; mkdir -m 700 d; mv f d/; cat d/f; \
                printf '#!/bin/sh\\necho ran\\n' > s; chmod +x s; ./s; rm s; ! touch \"$1\" 2> /dev/null; \
                ! echo x > .git/hooks/pre-commit";
            let run = env
                .session(&place.0)
                .args(["--", "/bin/sh", "-c", line, "sh"]);
            let output = run.arg(&beside).output();
            output.assert_success().assert_stdout("x\nran\n");
            assert!(place.0.join("d/f").exists() && !beside.exists(), "{top}");
            let again = env.session(&place.0).line("cat d/f").output();
            again.assert_success().assert_stdout("x\n");
        }
        for top in ["/opt", "/usr/local/bin", "/usr/share", "/etc", "/dev/shm"] {
            let output = env.session(top).line("true").output();
            output.assert_code(125);
            assert!(
                output.stderr.contains("--workspace"),
                "{top}: {}",
                output.stderr
            );
        }
    }
}

/// A read-only workspace can be read, and writes to it fail as outside.
#[test]
fn a_workspace_that_is_read_only_can_be_read() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let line = format!("chmod 555 {0}; ls > /dev/null", repo.path().display());
        env.shell(repo.path(), &line).assert_success();
        let output = env
            .session(repo.path())
            .line("ls > /tmp/seen && test -s /tmp/seen && touch f")
            .output();
        // Root has no capabilities inside.
        output.assert_code(1);
    }
}

/// Files of an owner without an account on the machine, as in containers and archives: root's
/// session runs as that owner, in none of root's groups, with a home that belongs to no user.
#[test]
fn root_works_for_an_owner_whom_the_machine_does_not_know() {
    let env = TestEnv::of(None);
    if !env.is_root() {
        return;
    }
    for (owner, group) in [("54321:54321", "54321"), ("54321:0", "65534")] {
        let repo = env.repo_named(&owner.replace(':', "-"));
        let line = format!("chown -R {owner} {}", repo.path().display());
        env.shell(env.root(), &line).assert_success();
        let line = "echo $(id -u):$(id -g) $HOME; echo x > f; echo y > ~/f; cat ~/f; ls -A /home";
        let output = env.session(repo.path()).line(line).output();
        let expected = format!("54321:{group} /home/54321\ny\n54321\n");
        output.assert_success().assert_stdout(&expected);
    }
}

/// Archives have owners that the session does not have; as outside, root unpacks them without an
/// error.
#[test]
fn archives_with_foreign_owners_unpack() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let pack = "mkdir a; echo x > a/f; tar --owner=1000 --group=1000 -cf a.tar a; \
            tar --owner=4321 --group=4321 -cf b.tar a; rm -r a";
        env.shell(repo.path(), pack).assert_success();
        let line = "set -e; tar xf a.tar; cat a/f; rm -r a; tar --same-owner -xpf b.tar || test $(id -u) != 0; cat a/f";
        let output = env.session(repo.path()).line(line).output();
        output.assert_success().assert_stdout("x\nx\n");
    }
}
