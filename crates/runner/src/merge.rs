//! Merges three versions of one settings file: as it was copied, as its owner has it now, and as
//! the agent has it.

use std::path::Path;

use serde_json::{Map, Value};

/// The merged content of a file that both sides changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) text: String,
    /// Keys that both sides changed to different values; the agent's value stays.
    pub(crate) contested: Vec<String>,
}

/// Merges JSON or TOML by keys; `None` if the file is neither, or one version cannot be read.
pub(crate) fn merge(name: &Path, base: &str, owner: &str, agent: &str) -> Option<Merged> {
    let form = Form::of(name)?;
    let mut contested = Vec::new();
    let [base, owner, agent] = [base, owner, agent].map(|text| form.parse(text));
    let merged = by_keys(&base?, &owner?, agent?, &mut Vec::new(), &mut contested);
    let text = form.render(&Value::Object(merged))?;
    Some(Merged { text, contested })
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Toml,
}

impl Form {
    fn of(name: &Path) -> Option<Self> {
        match name.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    fn parse(self, text: &str) -> Option<Map<String, Value>> {
        if text.trim().is_empty() {
            return Some(Map::new());
        }
        let value = match self {
            Self::Json => serde_json::from_str(text).ok()?,
            Self::Toml => serde_json::to_value(text.parse::<toml::Table>().ok()?).ok()?,
        };
        match value {
            Value::Object(map) => Some(map),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => None,
        }
    }

    fn render(self, value: &Value) -> Option<String> {
        match self {
            Self::Json => serde_json::to_string_pretty(value).ok(),
            // A TOML time was converted to a table with a special key; convert it back.
            Self::Toml => {
                let table: toml::Table = serde_json::from_value(value.clone()).ok()?;
                toml::to_string(&table).ok()
            }
        }
    }
}

/// A change by only one side wins; if both changed a table, its keys are merged in turn.
fn by_keys(
    base: &Map<String, Value>,
    owner: &Map<String, Value>,
    agent: Map<String, Value>,
    path: &mut Vec<String>,
    contested: &mut Vec<String>,
) -> Map<String, Value> {
    let mut merged = agent;
    let keys: Vec<&String> = base.keys().chain(owner.keys()).collect();
    for key in keys {
        let (was, now) = (base.get(key), owner.get(key));
        if was == now || merged.get(key) == now {
            continue;
        }
        if merged.get(key) == was {
            match now {
                Some(now) => merged.insert(key.clone(), now.clone()),
                None => merged.remove(key),
            };
            continue;
        }
        path.push(key.clone());
        let tables = (now, merged.remove(key));
        let kept = if let (Some(Value::Object(now)), Some(Value::Object(inside))) = tables {
            let empty = Map::new();
            let was = was.and_then(Value::as_object).unwrap_or(&empty);
            Some(Value::Object(by_keys(was, now, inside, path, contested)))
        } else {
            let name = path.join(".");
            if !contested.contains(&name) {
                contested.push(name);
            }
            tables.1
        };
        path.pop();
        if let Some(kept) = kept {
            merged.insert(key.clone(), kept);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Merged, merge};

    fn merged(name: &str, versions: [&str; 3]) -> Option<Merged> {
        let [base, owner, agent] = versions;
        merge(Path::new(name), base, owner, agent)
    }

    #[test]
    fn each_side_keeps_its_own_changes() {
        let all = merged(
            "config.toml",
            [
                "model = \"m\"\nsame = 1\ngone = true\n[projects]\n",
                "model = \"m9\"\nsame = 1\nsince = 2026-11-26T10:00:00Z\n[projects]\na = 1\n",
                "model = \"m\"\nsame = 1\ngone = true\nown = [1]\n[projects]\nb = 2\n",
            ],
        );
        let all = all.unwrap();
        assert_eq!(all.contested, [""; 0]);
        let table: toml::Table = all.text.parse().unwrap();
        let expected: toml::Table =
            "model = \"m9\"\nsame = 1\nown = [1]\nsince = 2026-11-26T10:00:00Z\n[projects]\na = 1\nb = 2\n"
                .parse()
                .unwrap();
        assert_eq!(table, expected);
    }

    #[test]
    fn what_both_changed_stays_inside_and_is_named() {
        let both = merged(
            "settings.json",
            [
                "{\"a\":{\"b\":1,\"c\":1},\"d\":1}",
                "{\"a\":{\"b\":2,\"c\":2},\"d\":3}",
                "{\"a\":{\"b\":3,\"c\":1}}",
            ],
        );
        let both = both.unwrap();
        assert_eq!(both.contested, ["a.b", "d"]);
        let value: serde_json::Value = serde_json::from_str(&both.text).unwrap();
        assert_eq!(value, serde_json::json!({"a": {"b": 3, "c": 2}}));
    }

    #[test]
    fn what_cannot_be_read_is_not_merged() {
        for versions in [
            ["{}", "{", "{}"],
            ["{}", "{}", "[1]"],
            ["{ // x\n}", "{}", "{}"],
        ] {
            assert_eq!(merged("a.json", versions), None);
        }
        assert_eq!(merged("a.md", ["", "a", "b"]), None);
        assert!(merged("a.json", ["", "{\"a\":1}", "{\"b\":1}"]).is_some());
    }
}
