//! What a model's answer comes to. Everything that is not exactly an answer to the question passes it on.

use serde::Deserialize;
use stockade_approval::{Opinion, Question};
use stockade_types::{Authorisation, Risk, Verdict};

/// Bytes of what a model may answer, and characters of its reasons.
const ANSWER_BYTES_MAX: usize = 8 << 10;
const RATIONALE_CHARS_MAX: usize = 2_000;

/// The parts of a completion that are looked at; services add others.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    refusal: Option<String>,
}

/// The answer, in the one form that counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    question: String,
    risk: Risk,
    authorisation: Authorisation,
    outcome: Outcome,
    rationale: String,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Allow,
    Deny,
    Pass,
}

/// Returns what a model says about a question by the body of its answer. It allows nothing above `max_risk`.
pub fn opinion(question: &Question, model: &str, max_risk: Risk, body: &str) -> Opinion {
    let reviewer = format!("model {model}");
    match read(question, max_risk, body) {
        Ok((answer, verdict)) => Opinion {
            verdict,
            risk: Some(answer.risk),
            authorisation: Some(answer.authorisation),
            reviewer,
            rationale: answer.rationale,
        },
        Err(why) => Opinion::pass(&reviewer, format!("its answer does not count: {why}")),
    }
}

fn read(
    question: &Question,
    max_risk: Risk,
    body: &str,
) -> Result<(Answer, Option<Verdict>), String> {
    let completion: Completion =
        serde_json::from_str(body).map_err(|_| "it is no completion".to_owned())?;
    let [choice] = completion.choices.as_slice() else {
        return Err(format!("it has {} choices", completion.choices.len()));
    };
    if let Some(reason) = choice.finish_reason.as_deref().filter(|why| *why != "stop") {
        let reason: String = reason.chars().take(40).collect();
        return Err(format!("it was not finished: {reason}"));
    }
    let message = &choice.message;
    if message
        .tool_calls
        .as_ref()
        .is_some_and(|calls| !calls.is_empty())
    {
        return Err("it calls tools".to_owned());
    }
    if message
        .refusal
        .as_ref()
        .is_some_and(|text| !text.is_empty())
    {
        return Err("the model refuses to answer".to_owned());
    }
    let content = message.content.as_deref().unwrap_or_default();
    if content.len() > ANSWER_BYTES_MAX {
        return Err(format!("it has {} bytes", content.len()));
    }
    let answer: Answer = serde_json::from_str(content.trim())
        .map_err(|error| format!("it is not of the form: {error}"))?;
    if answer.question != question.id.as_str() {
        return Err("it is about another question".to_owned());
    }
    let length = answer.rationale.chars().count();
    if answer.rationale.trim().is_empty() || length > RATIONALE_CHARS_MAX {
        return Err(format!("its reasons have {length} characters"));
    }
    let verdict = match answer.outcome {
        Outcome::Deny => Some(Verdict::Deny),
        Outcome::Pass => None,
        Outcome::Allow if answer.authorisation == Authorisation::Unknown => {
            return Err("it contradicts itself: it allows what nobody has asked for".to_owned());
        }
        Outcome::Allow if answer.risk == Risk::Critical => {
            return Err("it contradicts itself: it allows what it calls critical".to_owned());
        }
        Outcome::Allow if answer.risk > max_risk => None,
        Outcome::Allow => Some(Verdict::Allow),
    };
    Ok((answer, verdict))
}
