//! Which variables of an execution differ from those at the start of the session. An answer binds
//! all of them: any variable can change the behaviour of some program.

use std::{collections::BTreeMap, path::Path};

use stockade_policy::{ExecRequest, Variable};
use stockade_types::RawText;

/// Longest number of a counter or a size of the terminal.
const NUMBER_BYTES_MAX: usize = 5;

/// The environment that the command was started with.
#[derive(Debug, Default)]
pub struct StartEnvironment(BTreeMap<RawText, RawText>);

/// Explanations of a variable that say nothing about the program's behaviour.
struct Caller<'a> {
    request: &'a ExecRequest,
    /// Whether the program is a shell or another program runs it, so that it could contain `cd -`.
    is_script: bool,
}

impl StartEnvironment {
    /// Takes the variables of the plan.
    pub fn new(variables: &[(RawText, RawText)]) -> Self {
        Self(variables.iter().cloned().collect())
    }

    /// Returns the differences, in the order of the execution's own list; missing variables come
    /// last.
    pub(super) fn differing(&self, request: &ExecRequest, is_script: bool) -> Vec<Variable> {
        let caller = Caller { request, is_script };
        let mut count: BTreeMap<&RawText, usize> = BTreeMap::new();
        for (name, _) in &request.environment {
            *count.entry(name).or_default() += 1;
        }
        let several = |name: &RawText| count.get(name).is_some_and(|count| *count > 1);
        let set = request.environment.iter().filter(|(name, value)| {
            // It depends on the program which duplicate counts, so all of them are shown.
            several(name)
                || (self.0.get(name) != Some(value) && !caller.explains(name, Some(value)))
        });
        let missing = self
            .0
            .keys()
            .filter(|name| !count.contains_key(name) && !caller.explains(name, None));
        set.map(|(name, value)| Variable {
            name: name.clone(),
            value: Some(value.clone()),
        })
        .chain(missing.map(|name| Variable {
            name: name.clone(),
            value: None,
        }))
        .collect()
    }
}

impl Caller<'_> {
    /// Whether a variable has only the value that every shell gives it, which can mean nothing
    /// else: the name alone is never enough, since the caller can write any value under it.
    fn explains(&self, name: &RawText, value: Option<&RawText>) -> bool {
        match name.as_bytes() {
            // The path of the program that is started, or of its parent program.
            b"_" => value.is_none_or(|value| self.names(value)),
            // The nesting depth of shells, which bash(1) does not use, and the size of the
            // terminal, for the layout of output.
            b"SHLVL" | b"COLUMNS" | b"LINES" => value.is_none_or(is_number),
            // The directory, which is bound by itself.
            b"PWD" => value.is_none_or(|value| *value == self.request.cwd),
            // The shell's previous directory: only `cd -` of a shell reads it.
            b"OLDPWD" => !self.is_script && !self.is_shell(),
            _ => false,
        }
    }

    fn names(&self, value: &RawText) -> bool {
        let request = self.request;
        [&request.program, &request.invoked_as, &request.subject.exe].contains(&value)
            || request.argv.first() == Some(value)
    }

    fn is_shell(&self) -> bool {
        let program = self.request.program.to_os();
        let own = Path::new(&program).file_name().unwrap_or_default();
        let aliases = self.request.aliases.iter().map(String::as_str);
        own.to_str()
            .into_iter()
            .chain(aliases)
            .any(|name| name.contains("sh") || name.contains("busybox") || name.contains("toybox"))
    }
}

fn is_number(value: &RawText) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= NUMBER_BYTES_MAX && bytes.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use stockade_policy::ExecRequest;
    use stockade_types::RawText;

    use super::StartEnvironment;

    fn pairs(list: &[(&str, &str)]) -> Vec<(RawText, RawText)> {
        list.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    fn shown(program: &str, list: &[(&str, &str)], is_script: bool) -> Vec<String> {
        let start = StartEnvironment::new(&pairs(&[("HOME", "/home/u"), ("PATH", "/usr/bin")]));
        let mut request = ExecRequest {
            program: program.into(),
            invoked_as: program.into(),
            argv: vec!["git".into()],
            cwd: "/w".into(),
            environment: pairs(list),
            ..ExecRequest::default()
        };
        request.subject.exe = "/usr/bin/bash".into();
        let differing = start.differing(&request, is_script);
        differing
            .into_iter()
            .map(|variable| match variable.value {
                Some(value) => format!("{}={}", variable.name, value),
                None => format!("{} unset", variable.name),
            })
            .collect()
    }

    const SAME: [(&str, &str); 2] = [("HOME", "/home/u"), ("PATH", "/usr/bin")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        SAME.iter().chain(more).copied().collect()
    }

    #[test]
    fn what_is_as_at_the_start_or_made_by_every_shell_does_not_differ() {
        assert_eq!(shown("/usr/bin/git", &SAME, false), [""; 0]);
        let noise = with(&[
            ("_", "/usr/bin/git"),
            ("SHLVL", "2"),
            ("COLUMNS", "120"),
            ("LINES", "50"),
            ("PWD", "/w"),
            ("OLDPWD", "/w/x"),
        ]);
        assert_eq!(shown("/usr/bin/git", &noise, false), [""; 0]);
    }

    #[test]
    fn a_name_that_shells_use_is_no_hiding_place() {
        let hidden = with(&[
            ("_", "-x"),
            ("SHLVL", "1; x"),
            ("COLUMNS", "123456"),
            ("PWD", "/elsewhere"),
        ]);
        let all = ["_=-x", "SHLVL=1; x", "COLUMNS=123456", "PWD=/elsewhere"];
        assert_eq!(shown("/usr/bin/git", &hidden, false), all);
        let back = with(&[("OLDPWD", "/w/x")]);
        assert_eq!(shown("/usr/bin/dash", &back, false), ["OLDPWD=/w/x"]);
        assert_eq!(shown("/w/deploy", &back, true), ["OLDPWD=/w/x"]);
    }

    #[test]
    fn what_is_new_changed_missing_or_there_twice_differs() {
        let list = [("PATH", "/w/bin"), ("LD_PRELOAD", "/w/x.so")];
        assert_eq!(
            shown("/usr/bin/git", &list, false),
            ["PATH=/w/bin", "LD_PRELOAD=/w/x.so", "HOME unset"]
        );
        let twice = with(&[("HOME", "/w")]);
        assert_eq!(
            shown("/usr/bin/git", &twice, false),
            ["HOME=/home/u", "HOME=/w"]
        );
    }
}
