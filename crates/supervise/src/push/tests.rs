//! The description of a push must match what git would do, so the tests ask git.

use std::{fs, io, path::Path, process::Command as Process};

use stockade_policy::ExecRequest;
use stockade_types::RawText;
use tempfile::TempDir;

use super::{Files, effects};

struct Plain;

impl Files for Plain {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if super::is_nothing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

struct Lab(TempDir);

impl Lab {
    fn new(config: &str) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(lab.0.path().join("home")).unwrap();
        lab.git(&["init", "--quiet", "--initial-branch=main", "repo"], ".");
        let repo = lab.0.path().join("repo");
        fs::write(repo.join("a"), "a").unwrap();
        lab.git(&["add", "a"], "repo");
        lab.git(
            &[
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@good.test",
                "-c",
                "commit.gpgsign=false",
                "commit",
                "-qm",
                "one",
            ],
            "repo",
        );
        let path = repo.join(".git/config");
        let own = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{own}{config}")).unwrap();
        lab
    }

    fn git(&self, arguments: &[&str], directory: &str) -> String {
        let output = Process::new("git")
            .args(arguments)
            .current_dir(self.0.path().join(directory))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.0.path().join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn shown(&self, line: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let home = self.0.path().join("home");
        let mut environment: Vec<(RawText, RawText)> = vec![
            ("HOME".into(), RawText::from_os(home.as_os_str())),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
        ];
        environment.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
        let request = ExecRequest {
            program: "/usr/bin/git".into(),
            argv: line.split(' ').map(Into::into).collect(),
            cwd: RawText::from_os(self.0.path().join("repo").as_os_str()),
            environment,
            ..ExecRequest::default()
        };
        effects(&Plain, &request)
            .into_iter()
            .map(|one| format!("{}: {}", one.label, one.text))
            .collect()
    }

    fn to(&self, line: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let lines = self.shown(line, variables);
        let places = lines.iter().filter_map(|line| {
            let place = line.strip_prefix("to: ").or(line.strip_prefix(": "))?;
            Some(place.to_owned())
        });
        places.collect()
    }
}

#[test]
fn the_place_is_the_one_that_git_would_take() {
    let configs = [
        "[remote \"origin\"]\n\turl = https://good.test/r\n",
        "[remote \"origin\"]\n\turl = https://good.test/r\n\tpushurl = ssh://git@b.test/r\n\tpushurl = c.test:r\n",
        "[remote \"origin\"]\n\turl = https://good.test/r\n[url \"https://evil.test/\"]\n\tinsteadOf = https://good.test/\n",
        "[remote \"origin\"]\n\turl = https://good.test/r\n[url \"https://evil.test/\"]\n\tpushInsteadOf = https://good.test/\n\
         [url \"https://longer.test/\"]\n\tpushInsteadOf = https://good.test/r\n",
        "[remote \"origin\"]\n\turl = https://good.test/r\n\tpushurl = https://good.test/p\n\
         [url \"https://evil.test/\"]\n\tpushInsteadOf = https://good.test/\n",
        "[remote \"origin\"]\n\turl = https://good.test/r\n\tpushurl = https://good.test/p\n\
         [url \"https://evil.test/\"]\n\tinsteadOf = https://good.test/\n",
        "[remote \"origin\"]\n\turl = https://a.test/r\n\turl = https://b.test/r\n",
    ];
    for config in configs {
        let lab = Lab::new(config);
        let git = lab.git(&["remote", "get-url", "--push", "--all", "origin"], "repo");
        let git: Vec<&str> = git.lines().collect();
        assert_eq!(lab.to("git push origin main", &[]), git, "{config}");
    }
}

#[test]
fn settings_of_the_home_the_environment_and_the_command_line_count() {
    let lab = Lab::new("[remote \"origin\"]\n\turl = https://good.test/r\n");
    let home = lab.0.path().join("home");
    let rewrite = "[url \"https://evil.test/\"]\n\tpushInsteadOf = https://good.test/\n";
    assert_eq!(lab.to("git push", &[]), ["https://good.test/r"]);
    let elsewhere = lab.0.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("git")).unwrap();
    fs::write(elsewhere.join(".gitconfig"), rewrite).unwrap();
    fs::write(elsewhere.join("git/config"), rewrite).unwrap();
    let path = elsewhere.to_str().unwrap();
    let file = elsewhere.join(".gitconfig");
    let counted = [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "remote.origin.pushURL"),
        ("GIT_CONFIG_VALUE_0", "https://evil.test/r"),
    ];
    let evil = ["https://evil.test/r"];
    assert_eq!(lab.to("git push", &[("XDG_CONFIG_HOME", path)]), evil);
    let global = [("GIT_CONFIG_GLOBAL", file.to_str().unwrap())];
    assert_eq!(lab.to("git push", &global), evil);
    assert_eq!(lab.to("git push", &counted), evil);
    let line = "git -c remote.origin.pushurl=https://evil.test/r push";
    assert_eq!(lab.to(line, &[]), evil);
    assert_eq!(lab.to("git push https://evil.test/r", &[]), evil);
    fs::write(home.join(".gitconfig"), "[include]\n\tpath = more\n").unwrap();
    fs::write(home.join("more"), rewrite).unwrap();
    assert_eq!(lab.to("git push", &[]), evil);
}

#[test]
fn branches_commits_and_force_are_said() {
    let lab = Lab::new("[remote \"origin\"]\n\turl = https://good.test/r\n");
    let new = lab.git(&["rev-parse", "HEAD"], "repo");
    let new = new.get(..12).unwrap();
    let lines = lab.shown("git push origin main", &[]);
    let expected = [
        "to: https://good.test/r".to_owned(),
        "refs: refs/heads/main → refs/heads/main".to_owned(),
        format!("commits: {new}; nothing was seen there yet"),
    ];
    assert_eq!(lines, expected);
    lab.git(&["update-ref", "refs/remotes/origin/main", "HEAD"], "repo");
    lab.git(&["pack-refs", "--all"], "repo");
    let lines = lab.shown("git push", &[]);
    assert_eq!(lines[1], "refs: refs/heads/main (push.default simple)");
    assert_eq!(
        lines[2],
        format!("commits: {new}, as it was seen there last")
    );
    let lines = lab.shown("git push --force origin HEAD:refs/heads/x :old", &[]);
    assert!(lines.contains(&"refs: refs/heads/main → refs/heads/x".to_owned()));
    assert!(lines.contains(&"refs: remove old".to_owned()));
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("! force: commits") && last.contains("removed"),
        "{last}"
    );
}

#[test]
fn what_cannot_be_told_is_said_and_bound() {
    let lab = Lab::new(
        "[remote \"origin\"]\n\turl = https://good.test/r\n[includeIf \"gitdir:/x\"]\n\tpath = /none\n",
    );
    let first = lab.shown("git push", &[]).pop().unwrap();
    assert!(first.contains("conditional settings"), "{first}");
    let path = lab.0.path().join("repo/.git/config");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}[a]\n\tb = c\n")).unwrap();
    assert_ne!(lab.shown("git push", &[]).pop().unwrap(), first);
    fs::write(&path, "[broken").unwrap();
    let broken = lab.shown("git push", &[]).pop().unwrap();
    assert!(broken.contains("has an error"), "{broken}");
    assert_eq!(
        lab.shown("git --git-dir=/none push", &[]),
        ["to: cannot be told: no repository was found"]
    );
    assert!(lab.shown("git status", &[]).is_empty());
}

#[test]
fn fuzz_git_settings() {
    let target = stockade_fuzz::Target {
        name: "git-settings",
        samples: vec![
            b"[core]\n\tbare = false ; remark\n[remote \"origin\"]\n\turl = \"https://good.test/a b\" # x\n\tfetch = +refs/*:refs/*\n".to_vec(),
            b"[include]\n\tpath = other\n[includeIf \"gitdir:~/\"]\n\tpath = a\\\nb\n[alias]p = !sh\n".to_vec(),
        ],
        words: &[b"[", b"\"]", b"\\\n", b"\\t", b"=", b"\r\n", b"\xef\xbb\xbf", b"[a.b]", b"[a \"b\\\"c\"]", b"include.path"],
        tries: stockade_fuzz::TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        for setting in super::config::parse(bytes).unwrap_or_default() {
            assert!(setting.name.contains(&b'.'), "{setting:?}");
            assert!(setting.value.len() <= bytes.len());
        }
    });
}
