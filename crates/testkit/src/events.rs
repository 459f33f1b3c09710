//! Reads the record of a session as the command line prints it.

use serde_json::Value;

/// One line of `stockade events SESSION --json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The whole line.
    pub json: Value,
}

impl Event {
    /// Reads lines of JSON; ends the test on an invalid line.
    pub fn parse_lines(text: &str) -> Vec<Self> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let json = serde_json::from_str(line)
                    .unwrap_or_else(|e| panic!("expected a line of JSON, saw `{line}`: {e}"));
                Self { json }
            })
            .collect()
    }

    /// Returns a field as text: of the event, otherwise of its decision, otherwise empty.
    pub fn field(&self, name: &str) -> &str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the kind, for example `connection.decided`.
    pub fn kind(&self) -> &str {
        self.json
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Returns the verdict, or nothing if the event has none.
    pub fn verdict(&self) -> &str {
        self.field("verdict")
    }

    /// Returns the deciding rule, or nothing if no rule matched the request.
    pub fn rule(&self) -> &str {
        self.field("rule")
    }

    /// Returns the reason of the decision.
    pub fn reason(&self) -> &str {
        self.field("reason")
    }

    /// Returns whether the event refuses something: a decision whose final verdict is deny. The
    /// answer to a question has a verdict too, but only the decision is the refusal.
    pub fn is_refusal(&self) -> bool {
        self.verdict() == "deny" && !self.kind().starts_with("approval.")
    }

    /// Returns whether `text` occurs anywhere in the target of the event.
    pub fn targets(&self, text: &str) -> bool {
        self.value("target")
            .is_some_and(|target| strings(target).iter().any(|s| s.contains(text)))
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let own = self
            .json
            .get(name)
            .filter(|value| !value.is_object() || name == "target");
        own.or_else(|| self.json.get("decision")?.get(name))
            .filter(|value| !value.is_null())
    }
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => {
            let words: Vec<String> = items.iter().flat_map(strings).collect();
            let joined = words.join(" ");
            words.into_iter().chain([joined]).collect()
        }
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        Value::Number(number) => vec![number.to_string()],
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

/// Ends the test unless exactly one event refuses `target`, and returns it; an empty rule or
/// reason ends the test too.
pub fn assert_one_refusal<'a>(events: &'a [Event], target: &str, rule: &str) -> &'a Event {
    let refusals: Vec<&Event> = events
        .iter()
        .filter(|event| event.is_refusal() && event.targets(target))
        .collect();
    let [event] = refusals.as_slice() else {
        panic!(
            "expected exactly one refusal of `{target}`, saw {}: {refusals:#?}\nall: {}",
            refusals.len(),
            summary(events)
        );
    };
    assert_eq!(event.rule(), rule, "rule of {event:#?}");
    assert!(!event.reason().is_empty(), "expected a reason: {event:#?}");
    event
}

/// Returns kind, verdict, rule and target of each event, one per line, for failure texts.
pub fn summary(events: &[Event]) -> String {
    let line = |event: &Event| {
        let target = event
            .value("target")
            .map(Value::to_string)
            .unwrap_or_default();
        format!(
            "{} {} {} {target}",
            event.kind(),
            event.verdict(),
            event.rule()
        )
    };
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Event, assert_one_refusal};
    use crate::failure_of;

    const LIFTED: &str = r#"{"kind":"connection.decided","verdict":"deny","rule":"paste","decision":"d-1","reason":"r","target":{"host":"paste.test","port":443}}"#;
    const NESTED: &str = r#"{"kind":"exec.decided","decision":{"decision":"d-2","verdict":"deny","rule":"push","reason":"r","target":{"argv":["git","push"]}}}"#;
    const ANSWER: &str = r#"{"kind":"approval.decided","verdict":"deny","reason":"r","target":{"argv":["git","push"]}}"#;

    #[test]
    fn fields_are_found_lifted_or_in_the_decision() {
        let events = Event::parse_lines(&format!("{LIFTED}\n{NESTED}\n\n{ANSWER}\n"));
        assert_eq!(events.len(), 3);
        assert_eq!(
            assert_one_refusal(&events, "paste.test", "paste").kind(),
            "connection.decided"
        );
        assert_eq!(
            assert_one_refusal(&events, "git push", "push").reason(),
            "r"
        );
    }

    #[test]
    fn none_or_two_or_another_rule_end_the_test() {
        let one = Event::parse_lines(LIFTED);
        let two = Event::parse_lines(&format!("{LIFTED}\n{LIFTED}"));
        failure_of(|| assert_one_refusal(&one, "good.test", "paste"));
        failure_of(|| assert_one_refusal(&one, "paste.test", "other"));
        let text = failure_of(|| assert_one_refusal(&two, "paste.test", "paste"));
        assert!(text.contains("saw 2"), "{text}");
        assert!(failure_of(|| Event::parse_lines("{")).contains("saw `{`"));
    }
}
