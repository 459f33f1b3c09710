//! The texts about executions in decisions.

use super::{ExecBody, ExecFeatures};

impl ExecFeatures<'_> {
    /// Returns the smallest rule that would allow this.
    pub(crate) fn suggestion(&self) -> String {
        let argv = self.request.argv.iter();
        let words: Vec<String> = argv.map(|word| format!("{:?}", word.display())).collect();
        format!(
            "an [[allow]] rule with what = \"exec\", command = [{}]",
            words.join(", ")
        )
    }
}

impl ExecBody {
    /// Returns a request that one of the commands allows.
    pub(crate) fn example(&self, pattern: usize) -> Option<String> {
        self.commands.get(pattern).map(ToString::to_string)
    }
}
