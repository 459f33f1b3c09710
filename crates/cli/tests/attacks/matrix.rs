//! Many attempts in one session: each is a shell snippet that succeeds if the attack does, and the
//! same session is started on every launch path, as every user.
//!
//! The attempts of a matrix are first made without the boundary, and each must succeed there. Their
//! effects are then checked from outside: a marker that the snippet can only leave after its
//! success, and everything else in the workspace and the home.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use stockade_testkit::{
    Output, Snapshot,
    env::User,
    escape::{LaunchPath, Scene},
    events::{self, Event},
    run::require_tool,
};

/// Time for all attempts of a matrix together.
const TIMEOUT: Duration = Duration::from_secs(50);
/// Directory for the markers of attempts that succeeded.
const GOT: &str = "got";
/// Directory for the markers of attempts that were made.
const RAN: &str = "ran";

/// Functions for every snippet.
///
/// `sys` makes a system call: numbers are passed unchanged, words as pointers. `loader` prints the
/// path of the dynamic loader, `abi` the version of the kernel's Landlock interface. `ns` runs a
/// snippet in its own user, mount, network, IPC and UTS namespaces, for the harmless twin of an
/// action that only root may do.
const LIBRARY: &str = r#"
sys() { perl -e '@a = map { /^-?\d+$/ ? $_ + 0 : "$_" } @ARGV; $n = shift @a; $r = syscall($n, @a); exit($r < 0)' "$@"; }
loader() { ls /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 2> /dev/null | head -n 1; }
abi() { perl -e 'print syscall(444, 0, 0, 1)'; }
ns() { unshare --user --map-root-user --mount --net --ipc --uts /bin/bash -c ". ./library.sh; $1"; }
"#;

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    name: &'a str,
    snippet: &'a str,
    twin: Option<&'a str>,
    refusal: Option<Refusal<'a>>,
}

/// The one event that an attempt leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    kind: &'a str,
    rule: &'a str,
    target: &'a str,
}

impl Refusal<'_> {
    /// A path matches by its end; any other target by a part of it.
    fn is_about(&self, event: &Event) -> bool {
        let path = event
            .json
            .pointer("/decision/target/path")
            .or(event.json.pointer("/target/path"));
        match path.and_then(|path| path.as_str()) {
            Some(path) if self.kind == "file.denied" => path.ends_with(self.target),
            _ => event.targets(self.target),
        }
    }
}

/// An attempt that the kernel refuses: `snippet` exits with 0 only if the attack worked.
pub(crate) const fn closed<'a>(name: &'a str, snippet: &'a str) -> Attempt<'a> {
    Attempt {
        name,
        snippet,
        twin: None,
        refusal: None,
    }
}

/// A change of a protected file, which leaves one event about `target`.
pub(crate) const fn guarded<'a>(name: &'a str, snippet: &'a str, target: &'a str) -> Attempt<'a> {
    closed(name, snippet).event("file.denied", "protected", target)
}

impl<'a> Attempt<'a> {
    /// Shows the control on a harmless object instead.
    pub(crate) const fn twin(self, twin: &'a str) -> Self {
        Self {
            twin: Some(twin),
            ..self
        }
    }

    /// Expects exactly one refusal.
    pub(crate) const fn event(self, kind: &'a str, rule: &'a str, target: &'a str) -> Self {
        let refusal = Some(Refusal { kind, rule, target });
        Self { refusal, ..self }
    }
}

/// Attempts, with their settings.
pub(crate) struct Matrix<'a> {
    /// Id in the catalogue.
    pub(crate) id: &'a str,
    /// The attempts, in order.
    pub(crate) attempts: &'a [Attempt<'a>],
    /// Required programs.
    pub(crate) tools: &'a [&'a str],
    /// Prepares the scene on the host.
    pub(crate) prepare: &'a dyn Fn(&Scene),
    /// The value of `--ask`.
    pub(crate) ask: &'a str,
    /// Further options for `stockade run`.
    pub(crate) options: &'a dyn Fn(&Scene) -> Vec<String>,
    /// Variables for the snippets.
    pub(crate) variables: &'a dyn Fn(&Scene) -> Vec<(String, String)>,
    /// Paths in the workspace that the attempts may change, besides the markers.
    pub(crate) may_change: &'a [&'a str],
    /// A further check from the host of what must not have happened.
    pub(crate) after: &'a dyn Fn(&Scene, &Output),
}

impl<'a> Matrix<'a> {
    /// Makes a matrix with nothing to prepare.
    pub(crate) fn new(id: &'a str, attempts: &'a [Attempt<'a>]) -> Self {
        Self {
            id,
            attempts,
            tools: &[],
            prepare: &|_| {},
            ask: "deny",
            options: &|_| Vec::new(),
            variables: &|_| Vec::new(),
            may_change: &[],
            after: &|_, _| {},
        }
    }

    /// Makes all attempts, as every user and on every launch path.
    pub(crate) fn check(&self) {
        for tool in ["bash", "perl", "unshare"].iter().chain(self.tools) {
            require_tool(tool);
        }
        for user in User::all() {
            self.control(&scene(user.as_deref(), LaunchPath::Shell));
            for launch in LaunchPath::ALL {
                self.boundary(&scene(user.as_deref(), launch));
            }
        }
    }

    fn control(&self, scene: &Scene) {
        (self.prepare)(scene);
        self.write_script(scene, |attempt| attempt.twin.unwrap_or(attempt.snippet));
        let output = scene
            .env
            .command("/bin/bash")
            .args(["--norc", "./attempts.sh"])
            .envs((self.variables)(scene))
            .current_dir(scene.workspace())
            .timeout(TIMEOUT)
            .output();
        for attempt in self.attempts {
            assert!(
                scene.workspace().join(GOT).join(attempt.name).exists(),
                "{} {}: does not work without the boundary as {}, so the test proves nothing\n{output:?}",
                self.id,
                attempt.name,
                who(scene)
            );
        }
    }

    fn boundary(&self, scene: &Scene) {
        (self.prepare)(scene);
        self.write_script(scene, |attempt| attempt.snippet);
        let (tree, home) = (scene.repo.snapshot(), Snapshot::take(scene.env.home()));
        let output = scene
            .env
            .session_with(scene.workspace(), &["--ask", self.ask])
            .args((self.options)(scene))
            .args(["--", "/usr/bin/env"])
            .args(
                (self.variables)(scene)
                    .iter()
                    .map(|(n, v)| format!("{n}={v}")),
            )
            .args(words(scene.launch))
            .timeout(TIMEOUT)
            .output();
        for attempt in self.attempts {
            let at = format!(
                "{} {} {:?} as {}",
                self.id,
                attempt.name,
                scene.launch,
                who(scene)
            );
            let marker = |directory| {
                scene
                    .workspace()
                    .join(directory)
                    .join(attempt.name)
                    .exists()
            };
            assert!(marker(RAN), "{at}: was not even tried\n{output:?}");
            assert!(!marker(GOT), "{at}: came through\n{output:?}");
        }
        let markers = [format!("{GOT}/**"), format!("{RAN}/**")];
        let expected: Vec<&str> = markers
            .iter()
            .map(String::as_str)
            .chain(self.may_change.iter().copied())
            .collect();
        tree.assert_only_changed(&expected);
        home.assert_unchanged();
        self.check_events(scene, &output);
        (self.after)(scene, &output);
    }

    fn write_script(&self, scene: &Scene, snippet: impl Fn(&Attempt<'a>) -> &'a str) {
        for directory in [GOT, RAN] {
            scene
                .env
                .write(scene.workspace().join(directory).join("none"), "");
        }
        scene
            .env
            .write(scene.workspace().join("library.sh"), LIBRARY);
        let mut script = "#!/bin/bash\n. ./library.sh\n".to_owned();
        for attempt in self.attempts {
            let (name, snippet) = (attempt.name, snippet(attempt));
            let lines = [
                format!(": > {RAN}/{name}"),
                format!("if (\n{snippet}\n); then : > {GOT}/{name}"),
                format!("else echo '{name}: refused'; fi\n"),
            ];
            script.push_str(&lines.join("\n"));
        }
        let path = scene
            .env
            .write(scene.workspace().join("attempts.sh"), &script);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).expect("the script was just written");
    }

    fn check_events(&self, scene: &Scene, output: &Output) {
        let session = scene.env.session_id();
        let record = scene.env.events(&session);
        // A refusal by the filter or the view itself is reported once for each program, so several
        // attempts share one.
        let is_shared =
            |event: &Event| event.kind() == "call.refused" || event.rule() == "read-only";
        let refusals: Vec<_> = record
            .iter()
            .filter(|event| event.is_refusal() && !is_shared(event))
            .collect();
        let mut explained = 0;
        for attempt in self.attempts {
            let Some(refusal) = attempt.refusal else {
                continue;
            };
            explained += 1;
            let count = refusals
                .iter()
                .filter(|event| {
                    event.kind() == refusal.kind
                        && event.rule() == refusal.rule
                        && refusal.is_about(event)
                        && !event.reason().is_empty()
                        && event.field("session") == session
                })
                .count();
            assert!(
                count == 1,
                "{} {}: expected one {refusal:?}, saw {count}\n{}\n{output:?}",
                self.id,
                attempt.name,
                events::summary(&record)
            );
        }
        // A refusal by the filter or a read-only view is reported once for each program and call.
        let told = |event: &&&events::Event| !["system-calls", "read-only"].contains(&event.rule());
        let others = refusals.iter().filter(told).count();
        assert!(
            others == explained,
            "{}: expected {explained} refusals, saw {others}\n{}\n{output:?}",
            self.id,
            events::summary(&record)
        );
    }
}

/// Options that give a session this policy.
pub(crate) fn with_policy(text: &'static str) -> impl Fn(&Scene) -> Vec<String> {
    move |scene| {
        let path = scene.env.write("policy.toml", text);
        vec!["--policy".into(), path.display().to_string()]
    }
}

fn scene(user: Option<&str>, launch: LaunchPath) -> Scene {
    let env = crate::attacks::environment(user);
    let repo = env.repo();
    Scene { env, repo, launch }
}

fn who(scene: &Scene) -> String {
    scene.env.user().map_or_else(
        || "the tests' own user".to_owned(),
        |user| user.name.clone(),
    )
}

fn words(launch: LaunchPath) -> &'static [&'static str] {
    match launch {
        LaunchPath::Direct => &["/bin/bash", "--norc", "attempts.sh"],
        LaunchPath::Shell => &["/bin/sh", "-c", "/bin/bash --norc attempts.sh; :"],
        LaunchPath::Script => &["./attempts.sh"],
    }
}
