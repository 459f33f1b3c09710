//! The records of old sessions are removed when their owner wants that, and nothing else is.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use stockade_testkit::{Repo, TestEnv, env::under_test, wait};

struct Place {
    env: TestEnv,
    repo: Repo,
}

impl Place {
    fn new() -> Self {
        let env = TestEnv::new(under_test());
        let repo = env.repo();
        Self { env, repo }
    }

    fn run(&self) -> String {
        self.env
            .session(self.repo.path())
            .args(["--", "true"])
            .success();
        self.env.session_id()
    }

    fn dir(&self, session: &str) -> PathBuf {
        self.env.state().join("sessions").join(session)
    }

    /// Makes a record look as if it had been written so many days ago.
    fn age(&self, session: &str, days: u32) {
        let line = format!(
            "touch -d '{days} days ago' {0}/* {0}",
            self.dir(session).display()
        );
        self.env.shell(self.env.root(), &line).assert_success();
    }

    fn prune(&self, arguments: &[&str]) -> String {
        let run = self.env.stockade().arg("prune").args(arguments);
        run.success().stdout
    }

    fn listed(&self) -> Vec<String> {
        let output = self.env.stockade().args(["sessions", "--json"]).success();
        let rows = output.stdout.lines().map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let missing = row.get("missing").and_then(serde_json::Value::as_bool);
            assert_eq!(missing, Some(false), "{line}");
            let id = row.get("id").and_then(serde_json::Value::as_str);
            id.unwrap_or_default().to_owned()
        });
        rows.collect()
    }
}

#[test]
fn what_is_old_goes_and_what_is_new_stays() {
    let place = Place::new();
    let (old, older, new) = (place.run(), place.run(), place.run());
    place.age(&old, 40);
    place.age(&older, 100);
    assert_eq!(place.listed().len(), 3);
    // By default ninety days; a dry run removes nothing.
    let shown = place.prune(&["--dry-run"]);
    assert!(
        shown.contains(&older) && shown.contains("1 record of"),
        "{shown}"
    );
    assert!(place.dir(&older).exists());
    place.prune(&[]);
    assert!(!place.dir(&older).exists());
    assert_eq!(place.listed(), [old.clone(), new.clone()]);
    // An option overrides the setting.
    place.prune(&["--keep-for", "30d"]);
    assert_eq!(place.listed(), std::slice::from_ref(&new));
    // The rest is complete, and the removal is recorded.
    place
        .env
        .stockade()
        .args(["log", "verify", "--all"])
        .success();
    let list = fs::read_to_string(place.env.state().join("pruned.jsonl")).unwrap_or_default();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains(&older) && list.contains(&old) && !list.contains(&new));
    assert!(fs::read_dir(place.env.state().join("removing")).is_ok_and(|dir| dir.count() == 0));
}

#[test]
fn the_oldest_go_first_where_there_are_too_many() {
    let place = Place::new();
    let all = [place.run(), place.run(), place.run()];
    for (session, days) in all.iter().zip([3, 1, 2]) {
        place.age(session, days);
    }
    place.prune(&["--keep", "2"]);
    assert!(!place.dir(&all[0]).exists());
    place.prune(&["--keep-bytes", "1B"]);
    assert_eq!(place.listed(), Vec::<String>::new());
}

#[test]
fn a_session_that_runs_or_has_only_begun_stays() {
    let place = Place::new();
    let running = place
        .env
        .session(place.repo.path())
        .args(["--", "/bin/sh", "-c", "echo up; sleep 60"])
        .spawn();
    assert!(wait::until_true(Duration::from_secs(30), || running
        .stdout()
        .contains("up")));
    let session = place.env.session_id();
    place.age(&session, 400);
    let fresh = place.run();
    place.prune(&["--keep", "0", "--keep-for", "1s"]);
    assert!(place.dir(&session).exists() && place.dir(&fresh).exists());
    drop(running);
}

#[test]
fn a_link_in_the_place_of_a_session_leads_nowhere() {
    let place = Place::new();
    let (session, other) = (place.run(), place.run());
    let kept = place.env.root().join("kept");
    fs::rename(place.dir(&session), &kept).ok();
    symlink(&kept, place.dir(&session)).ok();
    place.age(&other, 400);
    place
        .env
        .shell(place.env.root(), "touch -d '400 days ago' kept/*")
        .assert_success();
    place.prune(&[]);
    assert!(kept.join("journal.jsonl").exists() && place.dir(&session).is_symlink());
    assert!(!place.dir(&other).exists());
}

#[test]
fn runs_remove_by_themselves_what_the_user_does_not_keep() {
    let place = Place::new();
    let old = place.run();
    place.age(&old, 10);
    // Runs check at most once an hour.
    fs::remove_file(place.env.state().join("pruned.jsonl")).ok();
    place.run();
    assert!(place.dir(&old).exists(), "by default it is kept");
    fs::remove_file(place.env.state().join("pruned.jsonl")).ok();
    let config = place.env.home().join(".config/stockade");
    fs::create_dir_all(&config).ok();
    let policy = place.env.write(
        config.join("policy.toml"),
        "schema = 1\n[sessions]\nkeep_for = \"7d\"\n",
    );
    place.env.own(&config);
    place.run();
    assert!(!place.dir(&old).exists());
    // A policy for one session does not affect the others.
    let given = place
        .env
        .write("given.toml", "schema = 1\n[sessions]\nkeep_count = 0\n");
    let run = place
        .env
        .session(place.repo.path())
        .arg("--policy")
        .arg(given);
    let output = run.args(["--", "true"]).output();
    output
        .assert_code(125)
        .assert_stderr("how long records stay");
    place
        .env
        .stockade()
        .args(["policy", "check"])
        .arg(policy)
        .success();
}

#[test]
fn journals_that_stay_are_compressed_and_read_as_before() {
    let place = Place::new();
    let (old, new) = (place.run(), place.run());
    place.age(&old, 3);
    let said = || {
        let commands = [
            &["events", "--json"][..],
            &["events", "--follow"],
            &["show"],
            &["show", "--json"],
            &["log", "verify", "--json"],
        ];
        commands.map(|words| {
            let run = place.env.stockade().args(words).arg(&old);
            run.success().stdout
        })
    };
    let before = said();
    let is_packed = |session: &str| {
        let [plain, packed] = ["journal.jsonl", "journal.jsonl.zst"]
            .map(|name| place.dir(session).join(name).exists());
        assert_ne!(plain, packed, "{session}");
        packed
    };
    place.prune(&["--dry-run"]);
    assert!(!is_packed(&old) && !is_packed(&new));
    let shown = place.prune(&[]);
    assert!(shown.contains("saved by compressing"), "{shown}");
    // One that ended just now may not have released its lock.
    assert!(is_packed(&old) && !is_packed(&new));
    assert_eq!(said(), before);
    // Its age does not change, and a rebuilt index finds the same.
    for file in ["index.db", "index.db-wal", "index.db-shm"] {
        fs::remove_file(place.env.state().join(file)).ok();
    }
    assert_eq!(place.listed(), [old.clone(), new]);
    assert_eq!(said(), before);
    let verify = place.env.stockade().args(["log", "verify", "--all"]);
    assert_eq!(verify.success().stdout.matches("  intact").count(), 2);
    let shown = place.prune(&["--dry-run", "--keep-for", "1d"]);
    assert!(shown.contains(&old), "{shown}");
    // The control: the same file with one byte changed is not intact.
    let file = place.dir(&old).join("journal.jsonl.zst");
    let mut bytes = fs::read(&file).unwrap_or_default();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x55;
    }
    fs::write(&file, bytes).unwrap_or_default();
    let verify = place.env.stockade().args(["log", "verify", "--all"]);
    verify.output().assert_code(1).assert_stdout("broken");
    fs::remove_file(&file).unwrap_or_default();
    let verify = place.env.stockade().args(["log", "verify", &old]);
    verify.output().assert_code(1).assert_stdout("broken");
}
