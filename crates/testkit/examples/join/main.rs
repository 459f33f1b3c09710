//! The labelled run: real agents do a script whose every effect shows which call it is of, and the
//! record is compared with that. Run by `cargo xtask join`.
//!
//! The arguments are the binary under test and the agents; without any of these, all.
#![expect(
    clippy::expect_used,
    reason = "a broken fixture must end the program with its reason"
)]

mod agents;
mod score;
mod script;

use std::{path::Path, process::ExitCode, time::Duration};

use stockade_testkit::{
    ModelServer, Repo, TestEnv,
    approvals::{self, Answer, Asked},
    env::User,
    lab::Forge,
};

use agents::{AGENTS, Agent};
use score::{Count, KINDS, Score, score};
use script::{AGAIN, BUILD, EDITS, Script};

/// Time that an agent has for the script.
const TIMEOUT: Duration = Duration::from_mins(4);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((binary, wanted)) = words.split_first() else {
        note("join: the first argument is the binary under test");
        return ExitCode::FAILURE;
    };
    let mut scores = Vec::new();
    for agent in &AGENTS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == agent.name) {
            continue;
        }
        let Some(score) = run(Path::new(binary), agent) else {
            note(&format!("join: {} is not installed", agent.name));
            return ExitCode::FAILURE;
        };
        for fault in &score.faults {
            note(&format!("{}: {fault}", agent.name));
        }
        scores.push((agent, score));
    }
    print(&scores)
}

#[expect(clippy::print_stderr, reason = "says what happens while it runs")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// Runs one agent through the script and counts.
fn run(binary: &Path, agent: &Agent) -> Option<Score> {
    let program = agent.program()?;
    let env = TestEnv::new(binary);
    let env = match User::ordinary() {
        Some(user) => env.as_user(&user),
        None => env,
    };
    let repo = env.repo();
    let forge = Forge::start(&env, &repo);
    let server = &forge.server;
    let place = repo.path().display().to_string();
    let mut script = Script::new(&place, server.port());
    let model = ModelServer::start(script.steps(agent.has_sub_agents));
    prepare(&env, &repo, &script);
    let remote = format!("http://forge.test:{}/shop.git", server.port());
    let url = ["remote", "set-url", "origin", &remote];
    repo.git(&env, &url).assert_success();
    let url = model.url_as("model.test");
    if let Some((path, text)) = (agent.config)(&url) {
        env.write(env.home().join(path), &text);
    }
    let policy = policy(&env, &script, model.port(), server.port());
    let run = env
        .session_with(repo.path(), &["--ask", "inbox", "--policy"])
        .arg(policy)
        .envs((agent.variables)(&url))
        .arg("--")
        .arg(program)
        .args(agent.words)
        .arg("do the steps")
        .timeout(TIMEOUT);
    let (output, _) = approvals::answer_all(&env, run.spawn(), |asked: &Asked| {
        if asked.mentions("git push") || asked.mentions("forge.test") {
            let scope = "once".to_owned();
            return Answer::Allow { scope };
        }
        let reason = "not in this run".to_owned();
        Answer::Deny { reason }
    });
    if !model.is_finished() {
        note(&format!("{}: {output:?}", agent.name));
        model.assert_finished();
    }
    let events = env.events(&env.session_id());
    if let Some(path) = std::env::var_os("STOCKADE_JOIN_EVENTS") {
        let lines: Vec<String> = events.iter().map(|event| event.json.to_string()).collect();
        let path = Path::new(&path).join(format!("{}.jsonl", agent.name));
        std::fs::write(path, lines.join("\n")).expect("the directory is there");
        for result in model.results() {
            note(&format!("{result:?}"));
        }
    }
    Some(score(&events, &model.results(), "model.test"))
}

/// Makes the files that the script needs.
fn prepare(env: &TestEnv, repo: &Repo, script: &Script) {
    let at = |name: &str| repo.path().join(name);
    for (name, text) in [("edits.sh", EDITS), ("again.sh", AGAIN)] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(env.write(at(name), text), mode).expect("it was just written");
    }
    env.write(at("Makefile"), BUILD);
    env.write(at("again.count"), "0\n");
    for name in &script.files {
        env.write(at(name), "old\n");
    }
}

fn policy(env: &TestEnv, script: &Script, model: u16, server: u16) -> std::path::PathBuf {
    let names = script
        .hosts
        .iter()
        .map(|host| format!("\"{host}\" = \"127.0.0.1\"\n"));
    let text = format!(
        r#"schema = 1
[[allow]]
id = "lab-model"
what = "net"
hosts = ["model.test"]
ports = [{model}]
private = true

[[allow]]
id = "lab-friend"
what = "net"
hosts = ["*.friend.test", "forge.test"]
ports = [{server}]
private = true

[[deny]]
id = "lab-stranger"
what = "net"
hosts = ["*.stranger.test"]
reason = "a stranger of the laboratory"

[network.hosts]
"model.test" = "127.0.0.1"
"forge.test" = "127.0.0.1"
{}"#,
        names.collect::<String>()
    );
    env.write("policy.toml", &text)
}

/// Least precision and recall, and least share of what is exact, in percent.
const PRECISION_MIN: f64 = 99.0;
const RECALL_MIN: f64 = 98.0;
const EXACT_MIN: f64 = 90.0;
/// Least number of effects of all agents.
const EFFECTS_MIN: usize = 300;

fn percent(part: usize, of: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if of == 0 {
        return 0.0;
    }
    100.0 * number(part) / number(of)
}

/// Prints the tables; fails if a target is missed.
#[expect(clippy::print_stdout, reason = "the table is its output")]
fn print(scores: &[(&Agent, Score)]) -> ExitCode {
    println!(
        "| agent | protocol | effects | right | wrong | none | precision | recall | exact | wrongly exact |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut sum = Count::default();
    for (agent, score) in scores {
        let all = score.all();
        sum.add(&all);
        println!("| {} | {} | {}", agent.name, agent.protocol, columns(&all));
    }
    println!("| **all** | | {}", columns(&sum));
    println!("\n| effects | all | right | wrong | none | exact |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (kind, name) in KINDS.iter().enumerate() {
        let mut count = Count::default();
        let of_kind = scores
            .iter()
            .filter_map(|(_, score)| score.counts.get(kind));
        of_kind.for_each(|other| count.add(other));
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            count.labelled, count.right, count.wrong, count.missed, count.right_exact
        );
    }
    println!(
        "\n| agent | calls recorded | calls of sub-agents under their start | connections to the model \
         that name a call | effects without a label: name a call, name none |"
    );
    println!("|---|---:|---:|---:|---:|");
    for (agent, score) in scores {
        let (calls, recorded) = score.calls;
        let (subs, right, _) = score.of_sub_agents;
        let (own, named) = score.own;
        let (joined, none) = score.unmarked;
        println!(
            "| {} | {recorded} of {calls} | {right} of {subs} | {named} of {own} | {joined}, {none} |",
            agent.name
        );
    }
    let is_whole = |score: &Score| {
        let ((calls, recorded), (subs, right, wrong)) = (score.calls, score.of_sub_agents);
        recorded == calls && right == subs && wrong == 0
    };
    let is_met = sum.labelled >= EFFECTS_MIN
        && sum.wrong_exact == 0
        && percent(sum.right, sum.right + sum.wrong) >= PRECISION_MIN
        && percent(sum.right, sum.labelled) >= RECALL_MIN
        && percent(sum.right_exact, sum.right + sum.wrong) >= EXACT_MIN;
    if !is_met || !scores.iter().all(|(_, score)| is_whole(score)) {
        note("join: a target is missed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn columns(count: &Count) -> String {
    let named = count.right + count.wrong;
    format!(
        "{} | {} | {} | {} | {:.1} % | {:.1} % | {:.1} % | {} |",
        count.labelled,
        count.right,
        count.wrong,
        count.missed,
        percent(count.right, named),
        percent(count.right, count.labelled),
        percent(count.right_exact, named),
        count.wrong_exact
    )
}
