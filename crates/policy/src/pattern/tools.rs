//! Tools with subcommands whose options may stand before the subcommand.
//!
//! `git -c x.y=z -C dir push` is a push. For asks and denies a command is therefore also matched
//! without such options. Where it is unknown whether an option takes a value both readings are
//! tried, so that an unknown option cannot hide a subcommand. Allow rules never use a reading.

/// A tool and its options that take the next argument as their value.
struct Tool {
    names: &'static [&'static str],
    valued: &'static [&'static str],
}

/// From the tools' own manuals; an entry that is missing costs nothing but a needless ask.
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
        names: &[
            "poetry", "uv", "hatch", "flit", "pdm", "twine", "gem", "mvn", "gradle",
        ],
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
            "aws", "gcloud", "az", "flyctl", "vercel", "netlify", "wrangler",
        ],
        valued: &[
            "--profile",
            "--region",
            "--project",
            "--account",
            "--output",
            "-c",
            "--cwd",
        ],
    },
];

/// Returns the other readings of `arguments` (without `argv[0]`) for a program of this name.
pub(crate) fn readings<'a>(name: &[u8], arguments: &[&'a [u8]]) -> Vec<Vec<&'a [u8]>> {
    let known = TOOLS
        .iter()
        .find(|tool| tool.names.iter().any(|n| n.as_bytes() == name));
    let Some(tool) = known else { return Vec::new() };
    let begins_with_option = arguments
        .first()
        .is_some_and(|word| word.starts_with(b"-") || word.starts_with(b"+"));
    if !begins_with_option {
        return Vec::new();
    }
    let careful = skip(arguments, |word| {
        tool.valued.iter().any(|v| v.as_bytes() == word)
    });
    let greedy = skip(arguments, |word| {
        word.starts_with(b"-") && !word.contains(&b'=')
    });
    let mut readings = vec![careful.to_vec()];
    if greedy != careful {
        readings.push(greedy.to_vec());
    }
    readings
}

/// Drops leading options, each with the next word where `takes_value` says so.
fn skip<'s, 'a>(words: &'s [&'a [u8]], takes_value: impl Fn(&[u8]) -> bool) -> &'s [&'a [u8]] {
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        // `+nightly` is cargo's choice of a toolchain.
        let option = word.starts_with(b"-") || word.starts_with(b"+");
        if !option {
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
        readings(name, arguments).contains(&expected)
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
        assert!(!reads_as("git status", "status"));
        assert!(!reads_as("ls -l push", "push"));
    }
}
