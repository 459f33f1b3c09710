//! Secrets (family S) and the content of the home (F38).

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
    time::Duration,
};

use stockade_testkit::{
    Run, TestEnv, escape::Scene, http::Response, lab::TlsServer, processes, run::require_tool, wait,
};

use crate::attacks::{
    for_each_user,
    matrix::{Matrix, closed},
};

/// Places of secrets are absent: they cannot be read or listed, and their existence is not visible.
#[test]
fn f38_places_of_secrets_do_not_exist() {
    let places = [
        ".ssh/id_ed25519",
        ".aws/credentials",
        ".config/gcloud/credentials.db",
        ".kube/config",
        ".docker/config.json",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".gnupg/private-keys-v1.d/key",
        ".password-store/lab.gpg",
        ".config/gh/hosts.yml",
        ".local/share/keyrings/login.keyring",
        ".mozilla/firefox/lab/logins.json",
        ".config/google-chrome/Default/Login Data",
        ".cargo/credentials.toml",
        ".git-credentials",
        ".m2/settings.xml",
        ".bash_history",
    ];
    let attempts: Vec<(String, String)> = places
        .iter()
        .flat_map(|place| {
            let name = place.replace(['/', ' '], "_");
            [
                (
                    format!("read-{name}"),
                    format!("cat \"$HOME_OUTSIDE/{place}\""),
                ),
                (
                    format!("stat-{name}"),
                    format!("stat \"$HOME_OUTSIDE/{place}\""),
                ),
                (format!("home-{name}"), format!("cat ~/\"{place}\"")),
            ]
        })
        .collect();
    let mut attempts: Vec<_> = attempts
        .iter()
        .map(|(name, snippet)| closed(name, snippet))
        .collect();
    // The hosts that git may reach over ssh are listed in a file made for the session.
    attempts.push(closed(
        "list",
        "find ~/.ssh ~/.aws ! -type d ! -name known_hosts | grep -q .",
    ));
    Matrix {
        prepare: &|scene| {
            for place in places {
                if !scene.env.home().join(place).exists() {
                    scene.env.write(scene.env.home().join(place), "canary\n");
                }
            }
        },
        variables: &|scene| {
            vec![(
                "HOME_OUTSIDE".into(),
                scene.env.home().display().to_string(),
            )]
        },
        after: &|scene, output| scene.env.assert_no_canary(&output.stdout),
        ..Matrix::new("F38", &attempts)
    }
    .check();
}

/// Secrets of the machine cannot be read in a session of root, who owns them.
#[test]
fn f38_secrets_of_the_machine_are_covered() {
    for_each_user(|env| {
        let repo = env.repo();
        let look = "cat /etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow- /etc/sudoers /etc/ssh/*_key \
                    /etc/ssl/private/* /etc/stockade/* 2> /dev/null; :";
        let outside = env.shell(repo.path(), look);
        // Control: root can read them; another user cannot in any case.
        assert_eq!(
            outside.stdout.is_empty(),
            !env.is_root(),
            "the look finds what is there"
        );
        let inside = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", look])
            .success();
        assert!(inside.stdout.is_empty(), "it was read");
    });
}

/// No variable of the caller that looks like a secret is in any environment inside, and nothing
/// that the session leaves behind shows one.
#[test]
fn s02_no_environment_holds_the_callers_secrets() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'; ps eww 2> /dev/null; :";
        // Control: if the caller starts it directly, the variables are there.
        let decoy = env.canary("GITHUB_TOKEN").to_owned();
        let control = env
            .command("/bin/sh")
            .args(["-c", line])
            .env("GITHUB_TOKEN", &decoy)
            .output();
        assert!(control.stdout.contains(&decoy));
        let output = env
            .stockade()
            .current_dir(repo.path())
            .args(["run", "--ask", "deny", "--", "/bin/sh", "-c", line])
            .success();
        assert!(output.stdout.contains("STOCKADE_SESSION="), "{output:?}");
        env.assert_no_canary(&output.stdout);
        env.assert_no_canary(&output.stderr);
        let journal = stockade_testkit::Snapshot::take(env.state());
        assert!(journal.get("sessions").is_some());
        let all = env
            .command("/bin/grep")
            .args(["-rl", "canary-"])
            .arg(env.state())
            .output();
        assert_eq!(all.stdout, "", "a secret lies in the state");
        for show in [
            vec!["policy", "show"],
            vec!["sessions"],
            vec!["show", "last"],
            vec!["doctor"],
        ] {
            let shown = env.stockade().current_dir(repo.path()).args(&show).output();
            env.assert_no_canary(&shown.stdout);
            env.assert_no_canary(&shown.stderr);
        }
    });
}

/// Agents that sign or hand out secrets over a socket are out of reach.
#[test]
fn s04_agents_of_the_caller_are_out_of_reach() {
    let socket = |scene: &Scene| scene.env.root().join("agent.sock");
    let connect = r"perl -MSocket -e 'socket($s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ENV{AGENT})) or exit 1'";
    let attempts = [
        closed("connect", connect),
        closed("credential-store", "printf 'protocol=https\\nhost=good.test\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill | grep -q password=lab"),
        closed("bus", "[ -S /run/dbus/system_bus_socket ] || [ -n \"$DBUS_SESSION_BUS_ADDRESS\" ]").twin("[ -S \"$AGENT\" ]"),
        closed("containers", "[ -S /run/docker.sock ] || [ -S /var/run/docker.sock ] || [ -S /run/containerd/containerd.sock ]").twin("[ -S \"$AGENT\" ]"),
        closed("run", "ls /run | grep -vx stockade"),
    ];
    Matrix {
        prepare: &|scene| {
            let path = socket(scene);
            let listener = UnixListener::bind(&path).expect("the directory is ours");
            scene.env.own(&path);
            // It only has to accept connections; the test ends before its queue is full.
            std::thread::spawn(move || listener.accept());
            scene
                .env
                .write("home/.git-credentials", "https://lab:lab@good.test\n");
            scene
                .repo
                .git(
                    &scene.env,
                    &["config", "--global", "credential.helper", "store"],
                )
                .assert_success();
        },
        variables: &|scene| vec![("AGENT".into(), socket(scene).display().to_string())],
        ..Matrix::new("S04", &attempts)
    }
    .check();
}

/// Output that looks random is not treated as a secret: it arrives unchanged, byte for byte.
#[test]
fn s08_output_is_not_changed() {
    for_each_user(|env| {
        let repo = env.repo();
        let line = "sha256sum README.md; git rev-parse HEAD; echo 123e4567-e89b-12d3-a456-426614174000; head -c 3000 /bin/true | base64";
        let control = env.shell(repo.path(), line);
        let output = env
            .session(repo.path())
            .args(["--", "/bin/sh", "-c", line])
            .success();
        assert_eq!(output.stdout, control.stdout);
    });
}

/// The value of a credential of the owner.
const VALUE: &str = "lab-M4rk3rM4rk3rM4rk3rM4rk3rM4rk3r-marker-value";

/// Prepares a session with a credential for `good.test`, which reads what passes both ways.
fn with_credential(env: &TestEnv, workspace: &Path, server: &TlsServer, line: &str) -> Run {
    let authority = env.write("authority.pem", server.certificate_pem());
    let text = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"good.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"good.test\"]\nports = [{port}]\ntls = \"inspect\"\n\
         private = true\n[[credential]]\nid = \"svc\"\nkind = \"bearer\"\nsource = {{ env = \"SVC_TOKEN\" }}\n\
         as = \"SVC_TOKEN\"\nhosts = [\"good.test\"]\nports = [{port}]\n",
        authority.display(),
        port = server.port(),
    );
    let policy = env.write("policy.toml", &text).display().to_string();
    env.session(workspace)
        .args(["--policy".to_owned(), policy])
        .line(line)
        .env("SVC_TOKEN", VALUE)
}

/// Text that looks random passes both ways unchanged, byte for byte, where credentials are put in and taken
/// out and secrets are looked for.
#[test]
fn s08_what_passes_the_network_is_not_changed() {
    require_tool("curl");
    for_each_user(|env| {
        let server = TlsServer::with(&["good.test"], |request| Response {
            status: 200,
            headers: vec![(
                "X-Got".into(),
                request.header("authorization").unwrap_or("").into(),
            )],
            body: request.body.clone(),
        });
        let repo = env.repo();
        // Digests, ids, a lock file, an image, a text in two codings, and beginnings of the value.
        let make = format!(
            "{{ sha256sum README.md; git rev-parse HEAD; echo 123e4567-e89b-12d3-a456-426614174000; \
             for n in 1 2 3; do echo \"integrity sha512-$(head -c $((n * 900)) /bin/true | sha512sum | cut -c1-86)==\"; done; \
             head -c 90000 /bin/sh; head -c 9000 /bin/true | base64; head -c 9000 /bin/true | od -tx1; \
             printf '%s' '{}'; printf 'ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx token = 0c4b5a6d7e8f9a0b1c2d3e4f' ; }} > sent",
            VALUE.split_at(VALUE.len() - 1).0
        );
        env.shell(repo.path(), &make).assert_success();
        let send = format!(
            "curl -fsS -m 20 -H \"Authorization: Bearer $SVC_TOKEN\" -H 'Content-Type: x/y' --data-binary @sent https://good.test:{}",
            server.port()
        );
        let line = format!("{send}/one -o one; {send}/two -H 'Transfer-Encoding: chunked' -o two");
        let output = with_credential(env, repo.path(), &server, &line).success();
        env.shell(repo.path(), "cmp sent one && cmp sent two")
            .assert_success();
        let requests = server.requests();
        let sent = std::fs::read(repo.path().join("sent")).expect("it was made");
        assert!(
            requests.len() == 2 && requests.iter().all(|one| one.body == sent),
            "{output:?}"
        );
        // The control: the credential was put in, on the same connections.
        let with_value = |one: &stockade_testkit::http::Request| {
            one.header("authorization")
                .is_some_and(|field| field.ends_with(VALUE))
        };
        assert!(requests.iter().all(with_value), "{output:?}");
    });
}

/// Says in which processes other than itself a text is, which it gets backwards.
const LOOK: &str = r#"
import os, re, sys
wanted = {name: text[::-1].encode() for name, text in (one.split("=", 1) for one in sys.argv[1:])}
for pid in (one for one in os.listdir("/proc") if one.isdigit() and int(one) != os.getpid()):
    try:
        memory = open(f"/proc/{pid}/mem", "rb")
        lines = open(f"/proc/{pid}/maps").read().splitlines()
    except OSError:
        continue
    for line in lines:
        start, end = (int(x, 16) for x in line.split()[0].split("-"))
        if " r" not in line:
            continue
        try:
            memory.seek(start)
            held = memory.read(end - start)
        except (OSError, ValueError, OverflowError):
            continue
        for name, text in wanted.items():
            if text in held:
                print("found", name)
"#;

/// The process that holds the value of a credential is of no session: nothing inside can read its memory,
/// and on the host no other program of its user can.
#[test]
fn s10_memory_that_holds_secrets_is_out_of_reach() {
    require_tool("python3");
    for_each_user(|env| {
        let (server, repo) = (TlsServer::start(&["good.test"]), env.repo());
        env.write(repo.path().join("look.py"), LOOK);
        let backwards: String = VALUE.chars().rev().collect();
        let line = format!(
            "curl -fsS -m 20 -o /dev/null -H \"Authorization: Bearer $SVC_TOKEN\" https://good.test:{}/; \
             LAB=decoy-$((41 * 271))-text sleep 60 & sleep 0.2; \
             python3 look.py 'value={backwards}' 'decoy=txet-11111-yoced'; : > ready; \
             while [ ! -e go ]; do sleep 0.02; done; kill %1",
            server.port()
        );
        let running = with_credential(env, repo.path(), &server, &line).spawn();
        let ready = || repo.path().join("ready").exists();
        assert!(
            wait::until_true(Duration::from_secs(30), ready),
            "{}",
            running.stderr()
        );
        let ours: Vec<u32> = processes::descendants(running.pid());
        let egress = ours.iter().copied().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(8).any(|part| part == b"__egress")
        });
        let egress: Vec<u32> = egress.collect();
        assert_eq!(egress.len(), 1, "{ours:?}");
        let look = |pid: u32| env.shell(repo.path(), &format!("exec 7< /proc/{pid}/mem"));
        for pid in egress {
            // Root, as whom the tests may run, can read it: the value is there, and only this wall before it.
            if stockade_testkit::env::User::current().uid == 0 {
                assert_eq!(processes::memory_has(pid, &[VALUE]), [true]);
            }
            if !env.is_root() {
                assert_ne!(look(pid).code(), 0, "the memory can be read");
            }
        }
        env.shell(repo.path(), "exec 7< /proc/self/mem")
            .assert_success();
        env.write(repo.path().join("go"), "");
        let output = running.wait();
        output.assert_stdout("found decoy");
        assert!(!output.stdout.contains("found value"), "{output:?}");
        let got = server.requests();
        assert!(
            got[0]
                .header("authorization")
                .is_some_and(|field| field.ends_with(VALUE))
        );
    });
}

/// The clipboard of the window system is out of reach; what programs print is no way to it either (see
/// `what_reaches_past_the_screen_does_not_reach_the_terminal`).
#[test]
fn s12_window_systems_are_out_of_reach() {
    let socket = |scene: &Scene, name: &str| scene.env.root().join(name);
    let connect = r"perl -MSocket -e 'socket($s, AF_UNIX, SOCK_STREAM, 0); connect($s, $ARGV[0] eq q(@) ? pack(q(Sa*), 1, qq(\0$ARGV[1])) : pack_sockaddr_un($ARGV[1])) or exit 1'";
    let lines = [
        ("abstract", format!("{connect} @ \"$LAB_X11\"")),
        ("file", format!("{connect} - \"$LAB_RUNTIME/X9077\"")),
        ("wayland", format!("{connect} - \"$LAB_RUNTIME/wayland-9\"")),
        ("sound", format!("{connect} - \"$LAB_RUNTIME/pipewire-0\"")),
    ];
    let mut attempts: Vec<_> = lines
        .iter()
        .map(|(name, line)| closed(name, line))
        .collect();
    attempts.push(
        closed(
            "variables",
            "[ -n \"$DISPLAY$WAYLAND_DISPLAY$XAUTHORITY$XDG_RUNTIME_DIR\" ]",
        )
        .twin("[ -n \"$LAB_RUNTIME\" ]"),
    );
    attempts.push(closed("places", "ls /tmp/.X11-unix/* /run/user/*").twin("ls \"$LAB_RUNTIME\""));
    let abstract_name = |scene: &Scene| format!("{}/.X11-unix/X9077", scene.env.root().display());
    Matrix {
        prepare: &|scene| {
            let name = SocketAddr::from_abstract_name(abstract_name(scene)).expect("it is short");
            let mut listeners = vec![UnixListener::bind_addr(&name).expect("the name is ours")];
            for name in ["X9077", "wayland-9", "pipewire-0"] {
                let path = socket(scene, name);
                listeners.push(UnixListener::bind(&path).expect("the directory is ours"));
                scene.env.own(&path);
            }
            // They only have to take connections, as long as the test runs.
            std::mem::forget(listeners);
        },
        variables: &|scene| {
            vec![
                ("LAB_X11".into(), abstract_name(scene)),
                ("LAB_RUNTIME".into(), scene.env.root().display().to_string()),
            ]
        },
        ..Matrix::new("S12", &attempts)
    }
    .check();
}
