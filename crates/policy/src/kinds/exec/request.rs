//! The known facts about a program that is about to run.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, RawText, Subject, Target};

use crate::canonical::Canonical;

/// A program is about to run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Canonical path of the file inside the boundary.
    pub program: RawText,
    /// Path as it was given to `execve`.
    pub invoked_as: RawText,
    /// Other names of the same file, for example for a copy of git.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// SHA-256 of the file.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Argument vector with `argv[0]`.
    pub argv: Vec<RawText>,
    /// Directory it would run in.
    pub cwd: RawText,
    /// Every variable that it would have, in order; rules compare with these.
    #[serde(default)]
    pub environment: Vec<(RawText, RawText)>,
    /// The variables that differ from the start of the session; answers bind these.
    #[serde(default)]
    pub differing: Vec<Variable>,
    /// The other files that take part: the script, its interpreters, the files that a loader loads.
    #[serde(default)]
    pub involved: Vec<Involved>,
    /// The known effects that its arguments do not show.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// The process that wants to run it.
    #[serde(default)]
    pub subject: Subject,
}

impl ExecRequest {
    /// Returns whether the content of every file that takes part is known.
    pub fn is_known_by_content(&self) -> bool {
        self.digest.is_some() && self.involved.iter().all(|file| file.digest.is_some())
    }
}

/// A variable that differs from the start of the session.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: RawText,
    /// Its value; `None` if it was set at the start and no longer is.
    #[serde(default)]
    pub value: Option<RawText>,
}

/// Another file that takes part in an execution.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Involved {
    /// Canonical path inside the boundary.
    pub path: RawText,
    /// SHA-256 of the file; `None` if it is not known.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// An effect that an execution would have, determined before the question is asked.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What it is, in a word or two: `to`, `refs`, …
    pub label: String,
    /// The thing itself.
    pub text: RawText,
    /// Which answers bind it.
    pub bound: EffectBound,
}

/// Which answers bind an effect.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EffectBound {
    /// All: a grant for the session does not cover an execution that differs in it.
    Always,
    /// Only those for counted uses: it changes as the work proceeds, as commits do.
    Exact,
}

impl ExecRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            path: Some(self.program.clone()),
            raw_path: (self.invoked_as != self.program).then(|| self.invoked_as.clone()),
            argv: self.argv.clone(),
            cwd: Some(self.cwd.clone()),
            ..Target::default()
        }
    }

    /// Adds everything that identifies this exact request.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        hash.field(b"exec").field(self.invoked_as.as_bytes());
        self.hash_identity(hash);
        self.hash_effects(hash, &[EffectBound::Always, EffectBound::Exact]);
    }

    /// Adds the parts that were shown.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        let bound = without_quiet_flags(self);
        hash.field(b"exec");
        bound.as_ref().unwrap_or(self).hash_identity(hash);
        self.hash_effects(hash, &[EffectBound::Always]);
    }

    fn hash_effects(&self, hash: &mut Canonical, bound: &[EffectBound]) {
        for effect in self.effects.iter().filter(|one| bound.contains(&one.bound)) {
            hash.field(effect.label.as_bytes())
                .field(effect.text.as_bytes());
        }
    }

    fn hash_identity(&self, hash: &mut Canonical) {
        hash.content(&self.program, self.digest.as_ref())
            .field(self.cwd.as_bytes())
            .number(self.argv.len());
        for word in &self.argv {
            hash.field(word.as_bytes());
        }
        hash.number(self.involved.len());
        for file in &self.involved {
            hash.content(&file.path, file.digest.as_ref());
        }
        // If one name occurs several times, the order says which occurrence counts.
        let mut variables: Vec<&Variable> = self.differing.iter().collect();
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        hash.number(variables.len());
        for variable in variables {
            hash.field(variable.name.as_bytes());
            match &variable.value {
                Some(value) => hash.field(b"is").field(value.as_bytes()),
                None => hash.field(b"unset"),
            };
        }
    }
}

/// Flags of `git push` that change neither its destination nor its effect there.
pub(crate) const QUIET_PUSH_FLAGS: [&str; 7] = [
    "-q",
    "-u",
    "-v",
    "--progress",
    "--quiet",
    "--set-upstream",
    "--verbose",
];

/// Returns a push whose destination and refs are known, without the flags that do not change its
/// effect; `None` for any other request.
fn without_quiet_flags(request: &ExecRequest) -> Option<ExecRequest> {
    let has = |label: &str| request.effects.iter().any(|effect| effect.label == label);
    let [git, push, rest @ ..] = request.argv.as_slice() else {
        return None;
    };
    let known = has("to") && has("refs") && !has("! or") && push.as_bytes() == b"push";
    known.then(|| {
        let is_quiet = |word: &&RawText| {
            let mut flags = QUIET_PUSH_FLAGS.iter();
            flags.any(|flag| flag.as_bytes() == word.as_bytes())
        };
        // A word after another option could be the value of that option.
        let quiet = rest.iter().take_while(is_quiet).count();
        let kept = rest.iter().skip(quiet).cloned();
        ExecRequest {
            argv: [git.clone(), push.clone()]
                .into_iter()
                .chain(kept)
                .collect(),
            ..request.clone()
        }
    })
}
