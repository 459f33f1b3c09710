//! Which test keeps each invariant of the architecture.

use super::Subject;

/// Written in a comment beside a test that keeps an invariant, followed by its name.
const MARK: &str = "keeps invariant: ";

/// The invariants that no check of tidy can keep: name and words.
const INVARIANTS: &[(&str, &str)] = &[
    (
        "permitted-only",
        "bytes leave a sandbox only through a function that takes `Permitted<_>`",
    ),
    (
        "every-step-or-nothing",
        "a plan step that cannot be applied aborts the launch",
    ),
    (
        "record-first",
        "a verdict is in the journal before the agent sees its effect",
    ),
    (
        "no-record-no-permit",
        "if the journal cannot be written, the verdict is deny",
    ),
    (
        "repository-not-trusted",
        "nothing inside the workspace is read as trusted configuration",
    ),
    (
        "deny-wins",
        "an explicit deny beats every allow and every approval",
    ),
    (
        "stages-only-tighten",
        "no lower layer changes whom a rule with stages asks",
    ),
    (
        "only-people-answer-stages",
        "nobody but the people in its stages answers a rule with stages",
    ),
    (
        "failing-rule-denies",
        "a rule that fails to evaluate denies",
    ),
    (
        "approved-is-what-runs",
        "a changed argument, file, folder or policy voids an approval",
    ),
];

/// Lists the invariants that no test says it keeps.
pub(super) fn report(subject: &Subject) -> Vec<String> {
    let kept = |name: &str| {
        let mark = format!("{MARK}{name}");
        subject.sources.iter().any(|source| {
            let ends = |line: &str| {
                line.trim_start().starts_with("//") && line.trim_end().ends_with(&mark)
            };
            source.text.lines().any(ends)
        })
    };
    let loose = INVARIANTS.iter().filter(|(name, _)| !kept(name));
    loose
        .map(|(name, words)| {
            format!("not kept by a test: {name}: {words} (mark the test with `// {MARK}{name}`)")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_test_keeps_its_invariant() {
        let marked = Subject::fixture(&[(
            "crates/policy/tests/t.rs",
            &format!("// {MARK}deny-wins\n#[test]\nfn t() {{}}\n"),
        )]);
        assert_eq!(report(&Subject::default()).len(), INVARIANTS.len());
        assert_eq!(report(&marked).len(), INVARIANTS.len() - 1);
        assert!(
            !report(&marked)
                .iter()
                .any(|line| line.contains("deny-wins"))
        );
    }
}
