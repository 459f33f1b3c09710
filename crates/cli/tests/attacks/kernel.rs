//! Kernel, processes and isolation (families K and R).

use std::{fs, time::Duration};

use stockade_testkit::{UNATTENDED, processes, run::require_tool, wait};

use crate::attacks::{
    for_each_user,
    matrix::{Matrix, closed},
};

/// The view and the namespaces are fixed at launch. Because an ordinary user has the rights for
/// these calls only in its own namespaces, their twins run there.
#[test]
fn k04_mounts_and_namespaces_are_closed() {
    let clone3 = r#"perl -e '$a = pack("Q11", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0); $r = syscall(435, $a, 88); exit($r < 0)'"#;
    let setns =
        r#"perl -e 'open($f, "<", "/proc/self/ns/net"); exit(syscall(308, fileno($f), 0) < 0)'"#;
    let setns_twin = format!("ns \"{}\"", setns.replace('"', "\\\"").replace('$', "\\$"));
    let attempts = [
        closed("unshare-user", "unshare --user true"),
        closed("unshare-network", "sys 272 1073741824").twin("ns 'sys 272 1073741824'"),
        closed(
            "unshare-all",
            "unshare --user --map-root-user --mount --net --pid --fork true",
        ),
        closed("clone", "sys 56 268435473 0 0 0 0"),
        closed("clone3", clone3),
        closed("setns", setns).twin(&setns_twin),
        closed("mount", "sys 165 none /tmp tmpfs 0 0").twin("ns 'sys 165 none /tmp tmpfs 0 0'"),
        closed("remount", "sys 165 none /usr none 4128 0")
            .twin("ns 'sys 165 none /tmp tmpfs 0 0 && sys 165 none /tmp none 33 0'"),
        closed("unmount", "sys 166 /tmp 2")
            .twin("ns 'sys 165 none /tmp tmpfs 0 0 && sys 166 /tmp 2'"),
        closed("fsopen", "sys 430 tmpfs 0").twin("ns 'sys 430 tmpfs 0'"),
        closed("open-tree", "sys 428 -100 / 1").twin("ns 'sys 428 -100 / 32769'"),
        closed("fspick", "sys 433 -100 /tmp 0")
            .twin("ns 'sys 165 none /tmp tmpfs 0 0 && sys 433 -100 /tmp 0'"),
        closed("chroot", "sys 161 /tmp").twin("ns 'sys 161 /tmp'"),
        closed("host-name", "sys 170 x 1").twin("ns 'sys 170 x 1'"),
    ];
    Matrix::new("K04", &attempts).check();
}

/// Kernel surface that agents do not need does not exist. `bpf`, `perf_event_open`, module, clock
/// and reboot calls have no harmless control; the plan's own tests keep their entries.
#[test]
fn k06_kernel_surface_is_closed() {
    let write_memory = r#"perl -e '$b = "x" x 8; $s = "secret!!"; $l = pack("PQ", $b, 8); $r = pack("PQ", $s, 8); exit(syscall(311, $$ + 0, $l, 1, $r, 1, 0) != 8)'"#;
    let steal =
        r"perl -e '$p = syscall(434, $$ + 0, 0); exit($p < 0 || syscall(438, $p, 1, 0) < 0)'";
    let ring = r#"perl -e '$p = "\0" x 120; exit(syscall(425, 1, $p) < 0)'"#;
    let attempts = [
        closed("userfaultfd", "sys 323 1"),
        closed("keyctl", "sys 250 0 -3 1"),
        closed("add-key", "sys 248 user lab x 1 -2"),
        closed("process-memory", write_memory),
        closed("pidfd-getfd", steal),
        closed("io-uring", ring),
        closed("personality", "sys 135 262144"),
        closed("fanotify", "sys 300 512 0"),
        closed("netlink-events", "sys 41 16 3 15"),
        closed("netlink-filter", "sys 41 16 3 12").twin("ns 'sys 41 16 3 12'"),
        closed("netlink-sockets", "sys 41 16 3 4"),
        closed(
            "lease",
            "perl -e 'open($f, \"<\", \"README.md\"); exit(!fcntl($f, 1024, 0))'",
        ),
        closed(
            "notices",
            "perl -e 'open($d, \"<\", \".\") or syscall(2, $p = \".\", 65536); exit(syscall(72, syscall(2, $p = \".\", 65536), 1026, 2) < 0)'",
        ),
        closed("reclaim", "sys 157 58 0 0 0 0").twin("sys 157 38 1 0 0 0"),
        closed(
            "file-flags",
            "perl -e '$f = 0x40; open($x, \">\", \"got/flags\"); $p = pack(\"q\", $f); exit(!ioctl($x, 0x40086602, $p))'",
        ),
        closed(
            "asynchronous",
            "perl -e '$p = pack(\"Q\", 0); exit(syscall(206, 1, $p) < 0)'",
        ),
        closed("packet", "sys 41 17 3 0").twin("ns 'sys 41 17 3 0'"),
        closed("raw", "sys 41 2 3 1").twin("ns 'sys 41 2 3 1'"),
        closed("raw-six", "sys 41 10 3 58").twin("ns 'sys 41 10 3 58'"),
    ];
    Matrix::new("K06", &attempts).check();
}

/// The interfaces of the session's own network can be listed, and `lo` is the only one; nothing
/// about the network can be changed.
#[test]
fn k53_the_network_is_only_looked_at() {
    let own = |line: &str| format!("ns 'ip link set lo up && {line}'");
    let link = "ip link add v0 type veth";
    let address = "ip addr add 10.9.9.9/32 dev lo";
    let route = "ip route add 10.9.0.0/16 dev lo";
    let rule = "ip rule add from 10.9.9.9 table 99";
    let neighbour = "ip neighbour add 10.9.9.9 lladdr 02:00:00:00:00:01 dev lo";
    let down = "ip link set lo down";
    let seen = "ip -o link | grep -v ' lo:'";
    let twins = [link, address, route, rule, neighbour, down].map(own);
    let seen_twin = "ns 'ip link add v0 type veth && ip -o link | grep -v \" lo:\"'";
    let [
        link_twin,
        address_twin,
        route_twin,
        rule_twin,
        neighbour_twin,
        down_twin,
    ] = &twins;
    let attempts = [
        closed("link", link).twin(link_twin),
        closed("address", address).twin(address_twin),
        closed("route", route).twin(route_twin),
        closed("rule", rule).twin(rule_twin),
        closed("neighbour", neighbour).twin(neighbour_twin),
        closed("down", down).twin(down_twin),
        closed("others", seen).twin(seen_twin),
    ];
    Matrix {
        tools: &["ip"],
        ..Matrix::new("K53", &attempts)
    }
    .check();
}

/// Development servers list the interfaces first.
#[test]
fn k53_interfaces_can_be_listed() {
    for tool in ["ip", "python3", "node"] {
        require_tool(tool);
    }
    let line = "ip -o link | cut -d: -f2 && \
        python3 -c 'import socket; print([name for _, name in socket.if_nameindex()])' && \
        node -p 'Object.keys(require(\"os\").networkInterfaces())'";
    for_each_user(|env| {
        let repo = env.repo();
        let listed = env.session(repo.path()).line(line).success();
        assert_eq!(listed.stdout, " lo\n['lo']\n[ 'lo' ]\n", "{listed:?}");
        assert_eq!(listed.stderr, "");
    });
}

/// The requests of terminals, editors and copying programs on descriptors work as without the
/// boundary.
#[test]
fn k54_ordinary_requests_work() {
    for tool in ["script", "tmux", "vim", "python3", "lsattr", "less"] {
        require_tool(tool);
    }
    let line = r#"
        set -e
        script -qec 'stty rows 40 cols 100; stty size; tty' /dev/null | tr -d '\r' | head -n 1
        tmux -S own.sock new-session -d 'tty > tty.txt; sleep 20'
        until [ -s tty.txt ]; do sleep 0.1; done
        tmux -S own.sock kill-server; grep -q /dev/pts tty.txt && echo tmux
        script -qec 'vim -u NONE -n -c "put =1" -c "wq" edited.txt' /dev/null > /dev/null && tail -n 1 edited.txt
        python3 -c 'import pty, os, sys; sys.exit(pty.spawn(["true"]))' && echo pty
        python3 -c 'import fcntl, termios, struct, os
r, w = os.pipe(); os.write(w, b"abc")
print(struct.unpack("i", fcntl.ioctl(r, termios.FIONREAD, b"0000"))[0])'
        cp --reflink=auto README.md copy.txt && cmp README.md copy.txt && echo copy
        lsattr README.md > /dev/null && echo flags
        less README.md > /dev/null && echo less
    "#;
    for_each_user(|env| {
        let (outside, inside) = (env.repo_named("outside"), env.repo());
        let control = env.shell(outside.path(), line);
        control.assert_success();
        let output = env.session(inside.path()).line(line).success();
        assert_eq!(output.stdout, control.stdout, "{output:?}");
        assert!(output.stdout.starts_with("40 100\n"), "{output:?}");
    });
}

/// `/proc` shows the session, and a write to it changes nothing on the machine. The control writes
/// a setting in its own network namespace, never on the machine.
#[test]
fn k12_proc_shows_nothing_of_the_machine() {
    let setting = "echo 1 > /proc/sys/net/ipv4/ip_forward";
    let twin = "ns 'echo 1 > /proc/sys/net/ipv4/ip_forward'";
    let attempts = [
        closed("sysctl", setting).twin(twin),
        closed(
            "core-pattern",
            "echo '|/bin/true' > /proc/sys/kernel/core_pattern",
        )
        .twin(twin),
        closed(
            "trigger",
            "[ -w /proc/sysrq-trigger ] && : > /proc/sysrq-trigger",
        )
        .twin(twin),
        closed("symbols", "[ -n \"$(head -c 1 /proc/kallsyms)\" ]"),
        closed("interrupts", "[ -n \"$(head -c 1 /proc/interrupts)\" ]"),
        closed("first-environment", "head -c 1 /proc/1/environ | grep -q .")
            .twin("head -c 1 /proc/self/environ | grep -q ."),
        closed("first-root", "ls /proc/1/root/").twin("ls /proc/self/root/"),
        closed("first-cwd", "ls /proc/1/cwd/").twin("ls /proc/self/cwd/"),
        closed("first-descriptors", "ls -l /proc/1/fd | grep -q -- '->'")
            .twin("ls -l /proc/self/fd | grep -q -- '->'"),
        closed(
            "first-memory",
            "head -c 1 /proc/1/mem 2>&1 | grep -q 'Input/output'",
        )
        .twin("head -c 1 /proc/self/mem 2>&1 | grep -q 'Input/output'"),
        closed("others", "grep -q /all- /proc/$TESTS/cmdline"),
        // The first process belongs to the command's own user; Landlock prevents signals to it
        // (from interface 6 on, Linux 6.12).
        closed("first-signal", "[ $(abi) -ge 6 ] && kill -0 1").twin("kill -0 $$"),
        closed("system", "[ -e /sys/kernel ]"),
        closed("groups", "[ -e /sys/fs/cgroup ]"),
    ];
    Matrix {
        variables: &|_| vec![("TESTS".into(), std::process::id().to_string())],
        ..Matrix::new("K12", &attempts)
    }
    .check();
}

/// Root of the session owns files of the machine's root, but their modes still cannot be changed.
/// The devices of the machine are the ones inside, so their inodes are the machine's. The twins
/// change a plain file of that name, in their own `/dev`.
#[test]
fn k16_devices_are_few_and_cannot_be_changed() {
    let own = |line: &str| format!("ns 'sys 165 none /dev tmpfs 0 0 && : > /dev/full && {line}'");
    let mode = "chmod 0666 /dev/full";
    let times = "touch -c -d 2001-01-01 /dev/full";
    let owner = "chown \"$(id -u)\" /dev/full";
    let link = "ln -s full /dev/again";
    let [mode_twin, times_twin, owner_twin, link_twin] = &[mode, times, owner, link].map(own);
    let attempts = [
        closed("mode", mode).twin(mode_twin),
        closed("times", times).twin(times_twin),
        closed("owner", owner).twin(owner_twin),
        closed("attributes", "perl -e 'exit(syscall(188, $p = \"/dev/full\", $n = \"trusted.x\", $v = \"y\", 1, 0) < 0)'")
            .twin("perl -e 'exit(syscall(188, $p = \"README.md\", $n = \"user.x\", $v = \"y\", 1, 0) < 0)'"),
        closed("more", "[ -n \"$(ls /dev | grep -Evx 'fd|full|null|ptmx|pts|random|shm|stderr|stdin|stdout|tty|urandom|zero')\" ]"),
        closed("new", link).twin(link_twin),
    ];
    Matrix::new("K16", &attempts).check();
}

/// Programs with more rights than their caller give none.
#[test]
fn k02_set_id_programs_elevate_nobody() {
    for_each_user(|env| {
        let repo = env.repo();
        let shown = env
            .session(repo.path())
            .args([
                "--",
                "/bin/grep",
                "-E",
                "^(NoNewPrivs|Cap(Inh|Prm|Eff|Bnd|Amb)|Seccomp):",
                "/proc/self/status",
            ])
            .success();
        assert!(shown.stdout.contains("NoNewPrivs:\t1"), "{shown:?}");
        assert!(shown.stdout.contains("Seccomp:\t2"), "{shown:?}");
        assert_eq!(
            shown.stdout.matches("\t0000000000000000").count(),
            5,
            "{shown:?}"
        );
        let mounts = env
            .session(repo.path())
            .args(["--", "/bin/cat", "/proc/self/mountinfo"])
            .success();
        for line in mounts.stdout.lines() {
            assert!(line.contains("nosuid"), "{line}");
        }
    });
}

/// A program with the set-user-id bit of another user runs as its caller.
#[test]
fn k02_another_users_program_runs_as_its_caller_needs_root() {
    use std::os::unix::fs::PermissionsExt;
    for_each_user(|env| {
        let repo = env.repo();
        let program = repo.path().join("who");
        let other = if env.user().is_some() { 0 } else { 65534 };
        fs::copy("/usr/bin/id", &program).expect("the workspace is ours");
        std::os::unix::fs::chown(&program, Some(other), None).expect("root gives files away");
        // Set it after the change of the owner, which removes the bit.
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
        let who = |run: stockade_testkit::Run| run.current_dir(repo.path()).success().stdout;
        assert_eq!(
            who(env.command(&program).arg("-u")).trim(),
            other.to_string()
        );
        let plain = who(env.command("/usr/bin/id").arg("-u"));
        let inside = env
            .stockade()
            .args(UNATTENDED)
            .arg("--")
            .args(["./who", "-u"]);
        assert_eq!(who(inside), plain);
    });
}

/// The caller's other groups open nothing inside.
#[test]
fn k02_other_groups_of_root_are_dropped_needs_root() {
    require_tool("setpriv");
    let env = crate::attacks::environment(None);
    let repo = env.repo();
    let look = ["/bin/grep", "^Groups:", "/proc/self/status"];
    let groups = |words: &[&str]| {
        env.command("/usr/bin/setpriv")
            .args(["--groups", "4,27"])
            .args(words)
            .args(look)
            .current_dir(repo.path())
            .success()
            .stdout
    };
    assert_eq!(groups(&[]).trim(), "Groups:\t4 27");
    let own = env.binary().display().to_string();
    let inside = groups(&[&own, "run", "--ask", "deny", "--summary", "none", "--"]);
    assert_eq!(inside.trim(), "Groups:");
}

/// The machine's name is not visible.
#[test]
fn k28_the_machine_has_another_name() {
    for_each_user(|env| {
        let repo = env.repo();
        let outside = env.command("/bin/uname").arg("-n").success();
        assert_ne!(outside.stdout.trim(), "stockade");
        let inside = env
            .session(repo.path())
            .args(["--", "/bin/uname", "-n"])
            .success();
        assert_eq!(inside.stdout, "stockade\n");
    });
}

/// Descriptors that the caller has open are closed inside; the streams are the session's own.
#[test]
fn k14_descriptors_are_not_inherited() {
    for_each_user(|env| {
        let repo = env.repo();
        let secret = env.write("secret", "canary-descriptor\n");
        let open = "for n in 3 9 77 255 1000; do eval \"exec $n<>$SECRET\"; done; ";
        let read = "for n in 3 9 77 255 1000; do cat <&$n; done; :";
        let bash = |line: &str| {
            env.command("/bin/bash")
                .args(["--norc", "-c", line])
                .env("SECRET", &secret)
                .current_dir(repo.path())
                .success()
        };
        let control = bash(&format!("{open}/bin/bash --norc -c '{read}'"));
        assert!(control.stdout.contains("canary-descriptor"), "{control:?}");
        let own = env.binary().display();
        let inside =
            format!("{open}{own} run --ask deny --summary none -- /bin/bash --norc -c '{read}'");
        let output = bash(&inside);
        assert!(!output.stdout.contains("canary-descriptor"), "{output:?}");
        assert_eq!(
            output.stderr.matches("Bad file descriptor").count(),
            5,
            "{output:?}"
        );
        assert_eq!(
            fs::read_to_string(&secret).expect("it exists"),
            "canary-descriptor\n"
        );
    });
}

/// Neither process 1 nor the egress process holds any of the caller's descriptors, and process 1
/// holds none of the command's streams, whose readers would wait for it. Both prevent inspection,
/// so only root can check.
#[test]
fn k14_helpers_hold_nothing_of_others_needs_root() {
    for_each_user(|env| {
        let repo = env.repo();
        let secret = env.write("secret", "canary-descriptor\n");
        let own = env.binary().display();
        let marker = format!("300.{}14", std::process::id());
        let line = format!(
            "exec 9<>$SECRET; exec {own} run --ask deny --summary none -- /bin/sleep {marker}"
        );
        let session = env
            .command("/bin/bash")
            .args(["--norc", "-c", &line])
            .env("SECRET", &secret)
            .current_dir(repo.path())
            .spawn();
        let is_sleep = |process: u32| {
            fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe.ends_with("sleep"))
        };
        let running = || {
            let mut with = processes::with_argument(&marker).into_iter();
            with.any(is_sleep)
        };
        let has_command = wait::until_true(Duration::from_secs(10), running);
        assert!(has_command, "{}", session.stderr());
        let held = |process: u32| -> Vec<String> {
            let listed = fs::read_dir(format!("/proc/{process}/fd")).expect("it can be looked at");
            let links = listed.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            links.map(|link| link.display().to_string()).collect()
        };
        let shown = secret.display().to_string();
        let helper = |role: &str| {
            let found: Vec<u32> = processes::descendants(session.pid())
                .into_iter()
                .filter(|process| {
                    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
                    line.split(|byte| *byte == 0)
                        .any(|word| word == role.as_bytes())
                })
                .collect();
            assert_eq!(found.len(), 1, "{role}");
            found[0]
        };
        // Control: the supervisor has it from the caller.
        assert!(held(session.pid()).contains(&shown));
        // Standard error of the egress process is ours: it reports a panic there. It appends to the
        // session's spool.
        for (role, ours) in [("__init", 0), ("__egress", 2)] {
            let held = held(helper(role));
            let known = |link: &String| {
                ["/dev/null", "/null"].contains(&link.as_str())
                    || ["socket:", "anon_inode:[signalfd]", "anon_inode:[event"]
                        .iter()
                        .any(|kind| link.starts_with(kind))
            };
            let foreign: Vec<&String> = held.iter().filter(|link| !known(link)).collect();
            assert_eq!(foreign.len(), ours, "{role}: {held:?}");
            assert!(!held.contains(&shown), "{role}: {held:?}");
        }
        drop(session);
    });
}

/// Other processes of the machine can neither be seen nor signalled, nor those of another session.
#[test]
fn k28_sessions_do_not_see_each_other() {
    for_each_user(|env| {
        let repo = env.repo();
        let marker = format!("300.{}71", std::process::id());
        let host = env.command("/bin/sleep").arg(&marker).spawn();
        let inside_marker = format!("300.{}72", std::process::id());
        let line = format!(
            "echo shared > /tmp/seen; echo shared > /dev/shm/seen; echo shared > ~/seen; exec sleep {inside_marker}"
        );
        let first = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", &line])
            .spawn();
        let running = || processes::with_argument(&inside_marker).len() == 1;
        assert!(
            wait::until_true(Duration::from_secs(10), running),
            "{}",
            first.stderr()
        );
        // Control: on the host the search sees both.
        let look = format!(
            "grep -l -e {marker} -e {inside_marker} /proc/[0-9]*/cmdline 2> /dev/null | wc -l"
        );
        let seen = env.shell(repo.path(), &look);
        assert!(
            seen.stdout.trim().parse::<u32>().expect("a number") >= 2,
            "{seen:?}"
        );
        let attack = format!(
            "grep -l -e {} -e {} /proc/[0-9]*/cmdline 2> /dev/null; cat /tmp/seen /dev/shm/seen ~/seen 2> /dev/null; kill -9 -1; kill -9 {}; :",
            marker.replace("300.", "300[.]"),
            inside_marker.replace("300.", "300[.]"),
            host.pid()
        );
        let output = env
            .session(repo.path())
            .args(["--", "/bin/bash", "--norc", "-c", &attack])
            .output();
        assert_eq!(output.stdout, "", "{output:?}");
        assert!(running(), "the other session was killed");
        assert_eq!(
            processes::with_argument(&marker).len(),
            1,
            "a process of the machine was killed"
        );
    });
}

/// Shared memory and queues of the machine do not exist inside.
#[test]
fn k22_shared_memory_is_the_sessions_own() {
    for_each_user(|env| {
        let repo = env.repo();
        let made = env.command("/usr/bin/ipcmk").args(["-M", "4096"]).success();
        let id = made
            .stdout
            .trim()
            .rsplit(' ')
            .next()
            .expect("it says the id")
            .to_owned();
        let look = format!("ipcs -m -i {id} | grep -q bytes && echo seen; :");
        let control = env.shell(repo.path(), &look);
        let inside = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", &look])
            .output();
        env.command("/usr/bin/ipcrm").args(["-m", &id]).success();
        control.assert_stdout("seen");
        assert_eq!(inside.stdout, "", "{inside:?}");
    });
}

/// A foreign entry to the kernel ends the process: the filter's numbers would mean other calls.
#[test]
fn k06_the_old_entry_is_closed() {
    require_tool("gcc");
    for_each_user(|env| {
        let repo = env.repo();
        let source = env.write("old.c", include_str!("old_entry.c"));
        let program = repo.path().join("old");
        env.command("gcc")
            .args(["-O1", "-o"])
            .arg(&program)
            .arg(source)
            .success();
        env.command(&program).success().assert_stdout("entered");
        let output = env.session(repo.path()).args(["--", "./old"]).output();
        output.assert_code(128 + 31);
        assert!(!output.stdout.contains("entered"), "{output:?}");
    });
}

/// A session inside a session is refused with one reason.
#[test]
fn k26_nesting_is_refused_clearly() {
    for_each_user(|env| {
        let repo = env.repo();
        let copy = repo.path().join("stockade");
        fs::copy(env.binary(), &copy).expect("the workspace is ours");
        env.own(&copy);
        let output = env
            .session(repo.path())
            .args(["--", "./stockade", "run", "--", "/bin/true"])
            .output();
        output.assert_code(125);
        assert!(output.stderr.contains("inside"), "{output:?}");
    });
}
