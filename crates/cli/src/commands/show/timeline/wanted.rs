//! What of a timeline was asked for.

use super::{super::lines::Mark, Entry, Timeline};

impl Timeline {
    /// Removes what was not asked for: blocks and prompts of which nothing came that was.
    pub(in super::super) fn finish(&mut self) {
        let mut kept = Vec::with_capacity(self.entries.len());
        let mut has_come = false;
        for entry in self.entries.drain(..).rev() {
            let is_kept = match &entry {
                Entry::Run(run) => {
                    !run.unwanted || run.processes > 0 || !run.lines.is_empty() || run.more > 0
                }
                Entry::Line(line) => !line.unwanted || has_come,
            };
            if let Entry::Line(line) = &entry
                && line.mark == Mark::Prompt
            {
                has_come = false;
            } else {
                has_come |= is_kept;
            }
            if is_kept {
                kept.push(entry);
            }
        }
        kept.reverse();
        self.entries = kept;
    }
}
