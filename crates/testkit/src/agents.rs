//! The real agents, configured to talk only to the scripted model.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{env::TestEnv, model::MODEL, run::Run};

/// Time that an agent has for a whole script: each turn takes about a second, the first one more,
/// and a machine with two busy cores ten times that.
pub const AGENT_TIMEOUT: Duration = Duration::from_mins(3);
/// A key that opens nothing.
pub const LAB_KEY: &str = "lab-key-that-opens-nothing";

/// Finds the program of an agent: below `STOCKADE_TEST_AGENTS` (a directory with
/// `node_modules/.bin`), else on `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let installed = std::env::var_os("STOCKADE_TEST_AGENTS")
        .map(|directory| PathBuf::from(directory).join("node_modules/.bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    installed
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Finds the program of an agent, or ends the test with its name.
pub fn require(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| {
        panic!(
            "this test needs the agent `{name}`: install it with npm and set \
             STOCKADE_TEST_AGENTS to the directory that has node_modules, or run `cargo xtask test`"
        )
    })
}

/// Returns the directory with the programs and libraries of Python that tests use, or ends the test.
pub fn python() -> PathBuf {
    std::env::var_os("STOCKADE_TEST_AGENTS")
        .map(|directory| PathBuf::from(directory).join("python"))
        .filter(|directory| directory.join("bin/uv").is_file())
        .unwrap_or_else(|| {
            panic!(
                "this test needs `uv`, `grpcio`, `websockets` and `schemathesis`: install them with `pip install \
                 --target DIR/python`, set STOCKADE_TEST_AGENTS to DIR, or run `cargo xtask test`"
            )
        })
}

/// Returns the script of axe-core, which checks pages for people with disabilities, or ends the test.
pub fn axe() -> String {
    let folder = std::env::var_os("STOCKADE_TEST_AGENTS").map(PathBuf::from);
    let script = folder.map(|folder| folder.join("node_modules/axe-core/axe.min.js"));
    script
        .and_then(|script| fs::read_to_string(script).ok())
        .unwrap_or_else(|| {
            panic!(
                "this test needs `axe-core`: install it with npm and set STOCKADE_TEST_AGENTS to the \
                 directory that has node_modules, or run `cargo xtask test`"
            )
        })
}

/// Writes the configuration of Codex below `home` so that it asks the model at `base_url` (without
/// a path); the command line or the preset of a boundary sets everything else.
pub fn codex_config(home: &Path, base_url: &str) -> PathBuf {
    let directory = home.join(".codex");
    fs::create_dir_all(&directory).expect("the home of a test is writable");
    let text = format!(
        "model = \"{MODEL}\"\nmodel_provider = \"lab\"\n\
         [model_providers.lab]\nname = \"Laboratory\"\nbase_url = \"{base_url}/v1\"\n\
         wire_api = \"responses\"\nenv_key = \"LAB_KEY\"\n"
    );
    let path = directory.join("config.toml");
    fs::write(&path, text).expect("the home of a test is writable");
    path
}

/// Returns the command line of a Codex that does `prompt` without a person.
pub fn codex_arguments(program: &Path, prompt: &str) -> Vec<String> {
    words(program, &["exec", "--skip-git-repo-check", prompt])
}

/// Returns the variables that Codex needs in addition to `HOME` and `PATH`.
pub fn codex_variables() -> Vec<(String, String)> {
    vec![("LAB_KEY".into(), LAB_KEY.into())]
}

/// Writes below `home` the memory of Claude Code for a person who has used it before: without it,
/// Claude Code first asks for a theme and tries to reach its maker.
pub fn claude_config(home: &Path) -> PathBuf {
    let path = home.join(".claude.json");
    let text = "{\"hasCompletedOnboarding\":true,\"theme\":\"dark\"}\n";
    fs::write(&path, text).expect("the home of a test is writable");
    path
}

/// Returns the command line of a Claude Code that does `prompt` without a person.
pub fn claude_arguments(program: &Path, prompt: &str) -> Vec<String> {
    words(
        program,
        &[
            "-p",
            prompt,
            "--dangerously-skip-permissions",
            "--model",
            MODEL,
        ],
    )
}

/// Returns the variables that Claude Code needs in addition to `HOME` and `PATH`, to ask the model
/// at `base_url` (without a path).
pub fn claude_variables(base_url: &str) -> Vec<(String, String)> {
    [
        ("ANTHROPIC_BASE_URL", base_url),
        ("ANTHROPIC_API_KEY", LAB_KEY),
        ("ANTHROPIC_SMALL_FAST_MODEL", MODEL),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// The options of Codex if no boundary's preset sets them: run commands without a sandbox, and talk
/// only to the model.
const CODEX_ALONE: [&str; 8] = [
    "-c",
    "sandbox_mode=danger-full-access",
    "-c",
    "check_for_update_on_startup=false",
    "-c",
    "analytics.enabled=false",
    "-c",
    "features.plugins=false",
];
/// The same for Claude Code, which otherwise refuses to run without questions as root.
const CLAUDE_ALONE: [(&str, &str); 3] = [
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("IS_SANDBOX", "1"),
];

/// Makes a run of Codex without any boundary, in `directory`, with its configuration written.
pub fn codex_command(env: &TestEnv, directory: &Path, base_url: &str, prompt: &str) -> Run {
    env.own(&codex_config(&env.home(), base_url));
    let mut words = codex_arguments(&require("codex"), prompt);
    words.splice(1..1, CODEX_ALONE.map(str::to_owned));
    start(env, directory, &words).envs(codex_variables())
}

/// Makes a run of Claude Code without any boundary, in `directory`.
pub fn claude_command(env: &TestEnv, directory: &Path, base_url: &str, prompt: &str) -> Run {
    let words = claude_arguments(&require("claude"), prompt);
    let run = start(env, directory, &words).envs(claude_variables(base_url));
    run.envs(CLAUDE_ALONE)
}

fn start(env: &TestEnv, directory: &Path, words: &[String]) -> Run {
    let (program, arguments) = words.split_first().expect("an agent has a program");
    env.command(program)
        .args(arguments)
        .current_dir(directory)
        .timeout(AGENT_TIMEOUT)
}

fn words(program: &Path, arguments: &[&str]) -> Vec<String> {
    let program = program.to_str().expect("the path of an agent is text");
    std::iter::once(program)
        .chain(arguments.iter().copied())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{claude_variables, codex_config, find};

    #[test]
    fn the_configuration_names_the_laboratory() {
        let home = tempfile::tempdir().unwrap();
        let path = codex_config(home.path(), "http://model.test:4000");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.contains("base_url = \"http://model.test:4000/v1\"\n"),
            "{text}"
        );
        let variables = claude_variables("http://model.test:4000");
        let expected = ("ANTHROPIC_BASE_URL".into(), "http://model.test:4000".into());
        assert!(variables.contains(&expected));
    }

    #[test]
    fn an_agent_that_is_nowhere_is_not_found() {
        assert_eq!(find("no-such-agent"), None);
    }
}
