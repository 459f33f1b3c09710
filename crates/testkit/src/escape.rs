//! The escape harness: it shows that an action works without the boundary, then tries it inside,
//! and checks the result from the host.
//!
//! An exit code proves nothing and is never checked. Only two things count: the effect (a file, a
//! byte at a server of the laboratory, a process that survives), which the case detects on the host
//! side, and the record of the session.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    UNATTENDED,
    env::{Repo, TestEnv, User},
    events::{self, Event},
    run::{Output, Run, require_tool},
    wait,
};

/// Time for one try; an attack that hangs is a failed test.
const TRY_TIMEOUT: Duration = Duration::from_mins(1);
/// Time in which the effect of the control must appear: what it starts may outlive it.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after the end of the attack during which its effect must stay absent.
const ABSENCE_TIME: Duration = Duration::from_millis(300);

/// The way in which the action is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchPath {
    /// The program itself is run inside the boundary.
    Direct,
    /// `sh -c` with the action as its line.
    Shell,
    /// A script in the workspace, which is then executed.
    Script,
}

impl LaunchPath {
    /// All of them; each is tried.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Shell, Self::Script];

    /// Returns the words that start `action` this way in `workspace`; writes the script that the
    /// last way needs.
    fn words(self, action: &Action<'_>, env: &TestEnv, workspace: &Path) -> Vec<String> {
        let line = action.line();
        match self {
            Self::Direct => action.direct(),
            Self::Shell => vec!["/bin/sh".into(), "-c".into(), line],
            Self::Script => {
                let path = env.write(workspace.join(SCRIPT), &format!("#!/bin/sh\n{line}\n"));
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(path, mode).expect("the script was just written");
                vec![format!("./{SCRIPT}")]
            }
        }
    }
}

/// Name of the script in the workspace.
const SCRIPT: &str = "try.sh";

/// The action that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// One program with its arguments.
    Program(&'a [&'a str]),
    /// A shell snippet. Run directly it is given to `bash`, so that the launch paths differ in the
    /// program that the launcher executes.
    Snippet(&'a str),
}

impl Action<'_> {
    fn direct(&self) -> Vec<String> {
        match self {
            Self::Program(words) => words.iter().map(|&word| word.to_owned()).collect(),
            Self::Snippet(line) => ["/bin/bash", "--norc", "-c", line]
                .map(str::to_owned)
                .to_vec(),
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Program(words) => words
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" "),
            Self::Snippet(line) => (*line).to_owned(),
        }
    }
}

/// Returns `word` as one word of a POSIX shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The positive control of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// The same action without the boundary.
    Same,
    /// A harmless twin, if the action itself would damage the machine.
    Twin(Action<'a>),
}

/// A refusal that the session's record must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Kind of the event.
    pub kind: &'a str,
    /// Id of the deciding rule; empty if no rule matches the request.
    pub rule: &'a str,
    /// A text in its target.
    pub target: &'a str,
    /// The exact number of such refusals.
    pub count: usize,
}

/// The boundary's effect on the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The effect must be absent, and exactly these refusals recorded.
    Refused(&'a [Expected<'a>]),
    /// The effect must be there, and no refusal recorded.
    Works,
}

/// A place in which a case is tried, made new for every try.
#[derive(Debug)]
pub struct Scene {
    /// Environment.
    pub env: TestEnv,
    /// Workspace.
    pub repo: Repo,
    /// The way in which the action is started.
    pub launch: LaunchPath,
}

impl Scene {
    /// Returns the workspace.
    pub fn workspace(&self) -> &Path {
        self.repo.path()
    }

    fn session_file(&self) -> PathBuf {
        self.env.root().join("session")
    }
}

/// One attack, or one benign action that must keep working.
pub struct Case<'a> {
    /// Id in the catalogue, for example `F02`.
    pub id: &'a str,
    /// What is tried, in a few words.
    pub description: &'a str,
    /// Required programs; a missing one fails the test with its name.
    pub tools: &'a [&'a str],
    /// Prepares a scene before the action; in a workspace made by [`TestEnv::repo`].
    pub prepare: &'a dyn Fn(&Scene),
    /// The action; a `$NAME` of [`Self::variables`] represents a value that only the scene knows.
    pub action: Action<'a>,
    /// Shows that the action works at all.
    pub control: Control<'a>,
    /// Variables for the action. Inside, `env` sets them as the first program would, because the
    /// caller's variables do not pass.
    pub variables: &'a dyn Fn(&Scene) -> Vec<(String, String)>,
    /// Returns, from the host side, whether the effect is there.
    pub effect: &'a dyn Fn(&Scene) -> bool,
    /// Options for `stockade run`, for example `--policy FILE`.
    pub options: &'a dyn Fn(&Scene) -> Vec<String>,
    /// The boundary's effect on it.
    pub outcome: Outcome<'a>,
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.description)
    }
}

impl Case<'_> {
    /// Makes a case with nothing to prepare, no variables, no options, and the same action as its
    /// control; the fields can be replaced with `..Case::new(…)`.
    pub fn new<'a>(
        id: &'a str,
        description: &'a str,
        action: Action<'a>,
        effect: &'a dyn Fn(&Scene) -> bool,
        outcome: Outcome<'a>,
    ) -> Case<'a> {
        Case {
            id,
            description,
            tools: &[],
            prepare: &|_| {},
            action,
            control: Control::Same,
            variables: &|_| Vec::new(),
            effect,
            options: &|_| Vec::new(),
            outcome,
        }
    }

    /// Tries the case with the `stockade` at `binary`: as every user that the tests can become, on
    /// every launch path, with its control first.
    pub fn check(&self, binary: &Path) {
        for user in User::all() {
            self.check_as(binary, user.as_deref());
        }
    }

    /// Tries the case as one user; `None` is the current user.
    pub fn check_as(&self, binary: &Path, user: Option<&str>) {
        for tool in self.tools {
            require_tool(tool);
        }
        for launch in LaunchPath::ALL {
            self.check_control(&scene(binary, user, launch));
            self.check_boundary(&scene(binary, user, launch));
        }
    }

    fn check_control(&self, scene: &Scene) {
        (self.prepare)(scene);
        let action = match &self.control {
            Control::Same => &self.action,
            Control::Twin(action) => action,
        };
        assert!(
            !(self.effect)(scene),
            "{}: the effect is there before the control",
            self.at(scene)
        );
        let (program, arguments) = self.words(scene, action);
        let output = scene.env.command(program).args(arguments);
        let output = output
            .current_dir(scene.workspace())
            .timeout(TRY_TIMEOUT)
            .output();
        let seen = wait::until_true(EFFECT_TIMEOUT, || (self.effect)(scene));
        assert!(
            seen,
            "{}: the control has no effect without the boundary, so the test proves nothing\n\
             {output:?}",
            self.at(scene)
        );
    }

    fn check_boundary(&self, scene: &Scene) {
        (self.prepare)(scene);
        assert!(
            !(self.effect)(scene),
            "{}: the effect is there before the try",
            self.at(scene)
        );
        let output = self.run(scene).output();
        match self.outcome {
            Outcome::Refused(expected) => {
                let seen = wait::until_true(ABSENCE_TIME, || (self.effect)(scene));
                assert!(
                    !seen,
                    "{}: the effect came through\n{output:?}",
                    self.at(scene)
                );
                self.check_events(scene, &output, expected);
            }
            Outcome::Works => {
                let seen = wait::until_true(EFFECT_TIMEOUT, || (self.effect)(scene));
                assert!(
                    seen,
                    "{}: it must go on working\n{output:?}",
                    self.at(scene)
                );
                self.check_events(scene, &output, &[]);
            }
        }
    }

    fn run(&self, scene: &Scene) -> Run {
        let (program, arguments) = self.words(scene, &self.action);
        let session_file = scene.session_file();
        scene
            .env
            .stockade()
            .current_dir(scene.workspace())
            .args(UNATTENDED)
            .arg("--session-file")
            .arg(session_file)
            .args((self.options)(scene))
            .arg("--")
            .arg(program)
            .args(arguments)
            .timeout(TRY_TIMEOUT)
    }

    /// Returns program and arguments; `env` sets the variables in the same way on both sides of the
    /// boundary.
    fn words(&self, scene: &Scene, action: &Action<'_>) -> (String, Vec<String>) {
        let words = scene.launch.words(action, &scene.env, scene.workspace());
        let variables = (self.variables)(scene);
        let mut words = if variables.is_empty() {
            words
        } else {
            let set = variables
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"));
            std::iter::once("/usr/bin/env".to_owned())
                .chain(set)
                .chain(words)
                .collect()
        };
        let program = words.remove(0);
        (program, words)
    }

    /// Ends the test unless the session started and recorded exactly the expected refusals.
    fn check_events(&self, scene: &Scene, output: &Output, expected: &[Expected<'_>]) {
        let session = fs::read_to_string(scene.session_file()).unwrap_or_else(|e| {
            panic!(
                "{}: no session was started ({e}), so nothing was tried\n{output:?}",
                self.at(scene)
            )
        });
        let events = scene.env.events(session.trim());
        let refusals: Vec<&Event> = events.iter().filter(|event| event.is_refusal()).collect();
        let mut explained = 0;
        for want in expected {
            let count = refusals.iter().filter(|event| want.fits(event)).count();
            assert!(
                count == want.count,
                "{}: expected {want:?}, saw {count} such events\n{}\n{output:?}",
                self.at(scene),
                events::summary(&events)
            );
            explained += count;
        }
        assert!(
            refusals.len() == explained,
            "{}: expected {explained} refusals, saw {}\n{}\n{output:?}",
            self.at(scene),
            refusals.len(),
            events::summary(&events)
        );
    }

    fn at(&self, scene: &Scene) -> String {
        let user = scene
            .env
            .user()
            .map_or("the tests' own user", |user| user.name.as_str());
        format!("{self:?}, {:?}, as {user}", scene.launch)
    }
}

impl Expected<'_> {
    fn fits(&self, event: &Event) -> bool {
        event.kind() == self.kind
            && event.rule() == self.rule
            && event.targets(self.target)
            && !event.reason().is_empty()
    }
}

fn scene(binary: &Path, user: Option<&str>, launch: LaunchPath) -> Scene {
    let env = TestEnv::new(binary);
    let env = match user {
        Some(user) => env.as_user(user),
        None => env,
    };
    let repo = env.repo();
    Scene { env, repo, launch }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Action, Case, Control, Expected, Outcome, quoted};
    use crate::{env::set_mode, failure_of};

    /// A boundary that refuses every program and records that once for each word of `TIMES`; with
    /// `LEAK` replaced by `leaks` it runs everything.
    const FAKE: &str = r#"#!/bin/sh
case $1 in
run)
    while [ "$1" != -- ]; do
        if [ "$1" = --session-file ]; then echo 3f2a > "$2"; fi
        shift
    done
    shift
    : > "$STOCKADE_STATE_DIR/events"
    case LEAK in leaks) "$@"; exit;; esac
    for time in TIMES; do
        printf '{"kind":"exec.decided","verdict":"deny","rule":"all","reason":"fake","target":{"path":"touch"}}\n' >> "$STOCKADE_STATE_DIR/events"
    done
    exit 126;;
events)
    cat "$STOCKADE_STATE_DIR/events";;
esac
"#;

    const TOUCH: Action<'_> = Action::Program(&["touch", "made here"]);
    const ONE: Outcome<'_> = Outcome::Refused(&[Expected {
        kind: "exec.decided",
        rule: "all",
        target: "touch",
        count: 1,
    }]);

    fn fake(directory: &Path, leak: &str, times: &str) -> std::path::PathBuf {
        let path = directory.join("stockade");
        fs::write(&path, FAKE.replace("LEAK", leak).replace("TIMES", times)).unwrap();
        set_mode(&path, 0o755);
        path
    }

    fn check(case: &Case<'_>, leak: &str, times: &str) {
        let directory = tempfile::tempdir().unwrap();
        case.check_as(&fake(directory.path(), leak, times), None);
    }

    fn touch(outcome: Outcome<'static>) -> Case<'static> {
        let effect = &|scene: &super::Scene| scene.workspace().join("made here").exists();
        Case::new("X01", "make a file", TOUCH, effect, outcome)
    }

    #[test]
    fn a_refused_action_with_one_event_passes() {
        check(&touch(ONE), "no", "1");
    }

    #[test]
    fn an_effect_or_a_wrong_record_is_found() {
        let leak = failure_of(|| check(&touch(ONE), "leaks", "1"));
        assert!(
            leak.contains("X01 (make a file), Direct") && leak.contains("came through"),
            "{leak}"
        );
        let twice = failure_of(|| check(&touch(ONE), "no", "1 2"));
        assert!(twice.contains("saw 2 such events"), "{twice}");
        let silent = failure_of(|| check(&touch(ONE), "no", ""));
        assert!(silent.contains("saw 0 such events"), "{silent}");
        let more = failure_of(|| check(&touch(Outcome::Refused(&[])), "no", "1"));
        assert!(more.contains("expected 0 refusals, saw 1"), "{more}");
    }

    #[test]
    fn what_must_work_is_checked_too() {
        check(&touch(Outcome::Works), "leaks", "1");
        let broken = failure_of(|| check(&touch(Outcome::Works), "no", "1"));
        assert!(broken.contains("must go on working"), "{broken}");
    }

    #[test]
    fn a_control_without_effect_proves_nothing() {
        let effect = &|_: &super::Scene| false;
        let case = Case::new("X02", "nothing", TOUCH, effect, ONE);
        let text = failure_of(|| check(&case, "no", "1"));
        assert!(text.contains("proves nothing"), "{text}");
        let case = Case {
            control: Control::Twin(Action::Snippet("touch 'made here'")),
            ..touch(ONE)
        };
        check(&case, "no", "1");
    }

    #[test]
    fn a_session_that_never_started_is_no_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stockade");
        fs::write(&path, "#!/bin/sh\nexit 125\n").unwrap();
        set_mode(&path, 0o755);
        let text = failure_of(|| touch(ONE).check_as(&path, None));
        assert!(text.contains("no session was started"), "{text}");
    }

    #[test]
    fn a_missing_tool_fails_with_its_name() {
        let case = Case {
            tools: &["no-such-tool"],
            ..touch(ONE)
        };
        let text = failure_of(|| case.check_as(Path::new("/bin/true"), None));
        assert!(text.contains("`no-such-tool`"), "{text}");
    }

    #[test]
    fn variables_reach_the_action_on_both_sides() {
        let case = Case {
            action: Action::Snippet("touch \"$WHERE/made here\""),
            variables: &|scene| vec![("WHERE".into(), scene.workspace().display().to_string())],
            ..touch(Outcome::Works)
        };
        check(&case, "leaks", "1");
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
    }
}
