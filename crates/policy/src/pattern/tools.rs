//! Tools whose options may come before the subcommand.
//!
//! `git -c x.y=z -C dir push` is a push. For asks and denies a command is therefore also matched
//! without such options. If it is unknown whether an option takes a value, both readings are tried,
//! so that an unknown option cannot hide a subcommand. If no rule matches in either, it is tried
//! without any options, because most tools also accept them between two subcommands (`gh pr -R a/b
//! merge 1`). Allow rules never use a reading.

/// A tool and its options that take the next argument as their value.
struct Tool {
    names: &'static [&'static str],
    valued: &'static [&'static str],
}

/// From the tools' own manuals; a missing entry costs only a needless ask.
const TOOLS: &[Tool] = &[
    Tool {
        names: &["git"],
        valued: &[
            "-C",
            "-c",
            "--git-dir",
            "--work-tree",
            "--namespace",
            "--super-prefix",
            "--config-env",
            "--attr-source",
        ],
    },
    Tool {
        names: &["npm", "pnpm", "yarn", "bun"],
        valued: &[
            "-C",
            "-w",
            "-F",
            "--prefix",
            "--dir",
            "--cwd",
            "--registry",
            "--loglevel",
            "--tag",
            "--access",
            "--otp",
            "--workspace",
            "--filter",
            "--cache",
            "--userconfig",
        ],
    },
    Tool {
        names: &["cargo"],
        valued: &["-C", "-Z", "--color", "--config"],
    },
    Tool {
        names: &["docker", "podman", "nerdctl"],
        valued: &[
            "-c",
            "-H",
            "-l",
            "--config",
            "--context",
            "--host",
            "--log-level",
            "--url",
        ],
    },
    Tool {
        names: &["gh", "glab"],
        valued: &["-R", "--repo", "--hostname"],
    },
    Tool {
        names: &["kubectl", "oc", "helm"],
        valued: &[
            "-n",
            "-s",
            "-v",
            "--namespace",
            "--context",
            "--cluster",
            "--user",
            "--server",
            "--kubeconfig",
            "--kube-context",
            "--token",
            "--as",
            "--as-group",
        ],
    },
    Tool {
        names: &["terraform", "tofu", "pulumi"],
        valued: &["-C", "--cwd", "-s", "--stack"],
    },
    Tool {
        names: &["mvn", "mvnw"],
        valued: &[
            "-D",
            "-P",
            "-T",
            "-b",
            "-f",
            "-gs",
            "-gt",
            "-l",
            "-pl",
            "-rf",
            "-s",
            "-t",
            "--activate-profiles",
            "--builder",
            "--define",
            "--file",
            "--log-file",
            "--projects",
            "--resume-from",
            "--settings",
            "--threads",
        ],
    },
    Tool {
        names: &["gradle", "gradlew"],
        valued: &[
            "-D",
            "-I",
            "-P",
            "-b",
            "-c",
            "-g",
            "-p",
            "-x",
            "--console",
            "--exclude-task",
            "--gradle-user-home",
            "--init-script",
            "--max-workers",
            "--project-dir",
            "--project-prop",
            "--system-prop",
            "--tests",
            "--warning-mode",
        ],
    },
    Tool {
        names: &["npx"],
        valued: &["-c", "-p", "-w", "--call", "--package", "--workspace"],
    },
    Tool {
        names: &["poetry", "uv", "hatch", "flit", "pdm", "twine", "gem"],
        valued: &[
            "-C",
            "-P",
            "-p",
            "-e",
            "--directory",
            "--project",
            "--config-file",
            "--color",
        ],
    },
    Tool {
        names: &[
            "aws",
            "gcloud",
            "az",
            "fly",
            "flyctl",
            "vercel",
            "netlify",
            "wrangler",
            "heroku",
            "firebase",
            "cdk",
            "sam",
            "serverless",
            "sls",
            "copilot",
        ],
        valued: &[
            "--profile",
            "--region",
            "--project",
            "--account",
            "--output",
            "-a",
            "-c",
            "--app",
            "--cwd",
            "--stage",
        ],
    },
];

/// The readings of the arguments other than the literal one.
#[derive(Debug, Default)]
pub(crate) struct Readings<'a> {
    /// Without the leading options.
    pub(crate) behind_options: Vec<Vec<&'a [u8]>>,
    /// Without any options.
    pub(crate) words: Vec<Vec<&'a [u8]>>,
}

/// Returns the other readings of `arguments` (without `argv[0]`) for a program of this name.
pub(crate) fn readings<'a>(name: &[u8], arguments: &[&'a [u8]]) -> Readings<'a> {
    let known = TOOLS
        .iter()
        .find(|tool| tool.names.iter().any(|n| n.as_bytes() == name));
    let Some(tool) = known else {
        return Readings::default();
    };
    let is_known = |word: &[u8]| tool.valued.iter().any(|v| v.as_bytes() == word);
    let could_be = |word: &[u8]| word.starts_with(b"-") && !word.contains(&b'=');
    let begins_with_option = arguments.first().is_some_and(|word| is_option(word));
    let behind_options = if begins_with_option {
        vec![
            skip(arguments, is_known).to_vec(),
            skip(arguments, could_be).to_vec(),
        ]
    } else {
        Vec::new()
    };
    let words = if arguments.iter().any(|word| is_option(word)) {
        vec![without(arguments, is_known), without(arguments, could_be)]
    } else {
        Vec::new()
    };
    Readings {
        behind_options,
        words,
    }
}

/// `+nightly` selects a toolchain of cargo.
fn is_option(word: &[u8]) -> bool {
    word.starts_with(b"-") || word.starts_with(b"+")
}

/// Drops all options, each with the next word if `takes_value` says so.
fn without<'a>(words: &[&'a [u8]], takes_value: impl Fn(&[u8]) -> bool) -> Vec<&'a [u8]> {
    let mut kept = Vec::new();
    let mut rest = words;
    loop {
        rest = skip(rest, &takes_value);
        let Some((word, after)) = rest.split_first() else {
            return kept;
        };
        kept.push(*word);
        rest = after;
    }
}

/// Drops leading options, each with the next word if `takes_value` says so.
fn skip<'s, 'a>(words: &'s [&'a [u8]], takes_value: impl Fn(&[u8]) -> bool) -> &'s [&'a [u8]] {
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if !is_option(word) {
            break;
        }
        rest = if takes_value(word) {
            after.get(1..).unwrap_or_default()
        } else {
            after
        };
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::readings;

    fn reads_as(line: &str, expected: &str) -> bool {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let expected: Vec<&[u8]> = expected.split(' ').map(str::as_bytes).collect();
        let (name, arguments) = words.split_first().unwrap();
        let found = readings(name, arguments);
        found.behind_options.contains(&expected) || found.words.contains(&expected)
    }

    #[test]
    fn options_do_not_hide_the_subcommand() {
        for line in [
            "git -c x.y=z -C dir push",
            "git --git-dir=/x --no-pager push",
            "git --git-dir /x push",
            "git -p push",
            "git --unknown value push",
            "npm --silent push",
            "cargo +nightly push",
            "docker --context x push",
        ] {
            assert!(reads_as(line, "push"), "{line}");
        }
        for (line, expected) in [
            ("gh pr -R a/b merge 1", "pr merge 1"),
            ("gh pr --unknown merge 1", "pr merge 1"),
            ("gh pr --unknown a/b merge 1", "pr merge 1"),
            ("gradle build -x publish", "build"),
            ("mvn -B clean -pl release test", "clean test"),
        ] {
            assert!(reads_as(line, expected), "{line}");
        }
        assert!(!reads_as("gradle build -x publish", "build publish"));
        assert!(!reads_as("git status", "status"));
        assert!(!reads_as("ls -l push", "push"));
    }
}
