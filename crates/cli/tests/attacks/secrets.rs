//! Secrets (family S) and the content of the home (F38).

use std::os::unix::net::UnixListener;

use stockade_testkit::escape::Scene;

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
