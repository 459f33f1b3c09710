//! A second process that answers questions, as a person in another terminal does.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    env::TestEnv,
    run::{Output, Running},
};

/// Time between two checks of the list: a person would be slower.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// One open question as `stockade approvals list --json` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Id of the approval.
    pub id: String,
    /// The whole entry.
    pub json: Value,
}

impl Asked {
    /// Returns whether `text` occurs anywhere in the entry.
    pub fn mentions(&self, text: &str) -> bool {
        self.json.to_string().contains(text)
    }
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Allow, with a scope (`once`, `session`).
    Allow {
        /// Scope as on the command line.
        scope: String,
    },
    /// Deny, with a reason that the agent sees.
    Deny {
        /// The reason.
        reason: String,
    },
}

/// Returns the open questions of all sessions of this environment.
pub fn pending(env: &TestEnv) -> Vec<Asked> {
    let output = env
        .stockade()
        .args(["approvals", "list", "--json"])
        .success();
    entries(&output.stdout)
        .into_iter()
        .map(|json| {
            let id = json.get("id").and_then(Value::as_str).map(str::to_owned);
            let id = id.unwrap_or_else(|| panic!("expected a question with an id, saw {json}"));
            Asked { id, json }
        })
        .collect()
}

/// Gives one answer.
pub fn answer(env: &TestEnv, id: &str, answer: &Answer) -> Output {
    let run = env.stockade().arg("approvals");
    match answer {
        Answer::Allow { scope } => run.args(["allow", id, "--scope", scope]),
        Answer::Deny { reason } => run.args(["deny", id, "--reason", reason]),
    }
    .output()
}

/// Answers every question until `running` has ended, and returns its output and the questions.
pub fn answer_all(
    env: &TestEnv,
    mut running: Running,
    choose: impl Fn(&Asked) -> Answer,
) -> (Output, Vec<Asked>) {
    let mut seen: Vec<Asked> = Vec::new();
    while !running.is_over() && !running.is_late() {
        for asked in pending(env) {
            if seen.iter().any(|earlier| earlier.id == asked.id) {
                continue;
            }
            let given = answer(env, &asked.id, &choose(&asked));
            // If a question is gone by now, the end of its session settled it.
            let open = || pending(env).iter().any(|other| other.id == asked.id);
            assert!(
                given.status.success() || !open(),
                "the answer was not taken: {given:?}"
            );
            seen.push(asked);
        }
        thread::sleep(LOOK_INTERVAL);
    }
    (running.wait(), seen)
}

/// Reads a list of JSON objects: one array, or one object a line.
fn entries(text: &str) -> Vec<Value> {
    if let Ok(Value::Array(all)) = serde_json::from_str(text) {
        return all;
    }
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|e| panic!("expected JSON, saw `{line}`: {e}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Answer, answer_all};
    use crate::{TestEnv, env::set_mode};

    /// A supervisor that asks one question and ends with the answer.
    const FAKE: &str = r#"#!/bin/sh
cd "$STOCKADE_STATE_DIR" || exit 1
case "$1 $2" in
"run ") touch question; while [ ! -e answer ]; do sleep 0.05; done; cat answer;;
"approvals list") if [ -e question ]; then echo '[{"id":"7f3a7f3a","summary":"git push"}]'; else echo '[]'; fi;;
"approvals deny") rm question; echo "$@" > answer.new; mv answer.new answer;;
*) exit 2;;
esac
"#;

    #[test]
    fn each_question_is_answered_once() {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("stockade");
        fs::write(&binary, FAKE).unwrap();
        set_mode(&binary, 0o755);
        let env = TestEnv::new(&binary);
        let running = env.stockade().arg("run").spawn();
        let (output, asked) = answer_all(&env, running, |_| Answer::Deny {
            reason: "not now".into(),
        });
        assert_eq!(output.stdout, "approvals deny 7f3a7f3a --reason not now\n");
        assert_eq!(asked.len(), 1);
        assert!(asked.first().unwrap().mentions("git push"));
    }
}
