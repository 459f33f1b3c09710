//! The effect of one session's leftovers on the next one's seeds.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use stockade_policy::{Login, StateDir};
use stockade_types::AbsPath;

use super::{Contest, Directory, Seeding};
use crate::{caller::Caller, seed_list::Seeded};

struct Lab {
    _dir: tempfile::TempDir,
    base: PathBuf,
    seeded: Seeded,
    /// The reports of the last start.
    said: Vec<Contest>,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        for name in ["mine/prompts/deep", "agent", "victim"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        fs::write(base.join("mine/config"), "one").unwrap();
        fs::write(base.join("mine/prompts/deep/a"), "one").unwrap();
        fs::write(base.join("victim/file"), "untouched").unwrap();
        Self {
            _dir: dir,
            base,
            seeded: Seeded::default(),
            said: Vec::new(),
        }
    }

    /// Seeds as the next session does, with the list as it is read back.
    fn seed(&mut self) {
        let (uid, gid) = stockade_sys::identity::own();
        let caller = Caller {
            uid,
            gid,
            home: AbsPath::new(&self.base).unwrap(),
            user: String::new(),
            environment: Vec::new(),
        };
        let directory = Directory::open(&self.base.join("agent"), &caller).unwrap();
        let state = StateDir {
            path: "~/agent".to_owned(),
            path_from: None,
            seed: Vec::new(),
            merged: vec!["churn.json".to_owned()],
            instructions: Some("TOLD.md".to_owned()),
            logins: vec![Login {
                file: "auth.json".to_owned(),
                tokens: vec!["token".to_owned()],
            }],
        };
        let list = std::mem::take(&mut self.seeded);
        let mut seeding = Seeding::new(&state, list, "told\n");
        let names = [
            "config",
            "prompts",
            "settings.toml",
            "churn.json",
            "TOLD.md",
            "auth.json",
        ];
        for name in names {
            let from = self.base.join("mine").join(name);
            directory
                .seed(name.as_ref(), &from, &mut seeding, 0)
                .unwrap();
        }
        directory.follow_removals(&mut seeding).unwrap();
        self.said = seeding.contests;
        let list = self.base.join("list");
        seeding.list.write(&list).unwrap();
        self.seeded = Seeded::read(&list);
    }

    fn mine(&self, name: &str, text: &str) {
        fs::write(self.base.join("mine").join(name), text).unwrap();
    }

    fn inside(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join("agent").join(name)
    }

    fn copy(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn kept(&self) -> usize {
        let entries = fs::read_dir(self.base.join("agent")).unwrap().flatten();
        let names = entries.map(|e| e.file_name().into_string().unwrap());
        names.filter(|name| name.contains(super::ASIDE)).count()
    }
}

#[test]
fn the_users_change_wins_and_the_agents_alone_stays() {
    let mut lab = Lab::new();
    lab.seed();
    assert_eq!(lab.copy("config"), "one");
    fs::write(lab.path("config"), "agent").unwrap();
    // A time in the future makes no difference.
    let future = SystemTime::now() + Duration::from_secs(400_000_000);
    let touch = |lab: &Lab| {
        fs::File::open(lab.path("config"))
            .unwrap()
            .set_modified(future)
            .unwrap();
    };
    touch(&lab);
    lab.seed();
    assert_eq!((lab.copy("config").as_str(), lab.kept()), ("agent", 0));
    // Both have changed: the agent's file stays, which is reported once for each version of the
    // user's.
    lab.mine("config", "two");
    let contest = |path: &str, keys: &[&str]| Contest {
        path: path.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    for said in [vec![contest("config", &[])], Vec::new()] {
        lab.seed();
        assert_eq!((lab.copy("config").as_str(), lab.kept()), ("agent", 0));
        assert_eq!(lab.said, said);
    }
    lab.mine("config", "three");
    lab.seed();
    assert_eq!(lab.said, [contest("config", &[])]);
    // The same content with other times is not a change by the user.
    fs::remove_file(lab.path("config")).unwrap();
    lab.seed();
    assert_eq!((lab.copy("config").as_str(), lab.kept()), ("three", 0));
    // If only the user's file changed it is copied, whatever its time.
    touch(&lab);
    lab.mine("config", "four");
    lab.seed();
    assert_eq!((lab.copy("config").as_str(), lab.kept()), ("four", 0));
    lab.inside("config", "agent");
    lab.mine("config", "four");
    lab.seed();
    assert_eq!(lab.copy("config"), "agent");
}

#[test]
fn settings_that_both_changed_are_merged() {
    let mut lab = Lab::new();
    lab.mine("settings.toml", "model = \"m\"\n");
    lab.mine("churn.json", "{\"starts\":1,\"theme\":\"dark\"}");
    lab.seed();
    lab.inside("settings.toml", "model = \"m\"\ntrusted = true\n");
    lab.inside("churn.json", "{\"starts\":2,\"theme\":\"dark\"}");
    lab.mine("settings.toml", "model = \"m9\"\n");
    lab.mine("churn.json", "{\"starts\":7,\"theme\":\"light\"}");
    lab.seed();
    assert_eq!(
        lab.copy("settings.toml"),
        "model = \"m9\"\ntrusted = true\n"
    );
    let churn: serde_json::Value = serde_json::from_str(&lab.copy("churn.json")).unwrap();
    assert_eq!(churn, serde_json::json!({"starts": 2, "theme": "light"}));
    assert_eq!(lab.said, []);
    // A key that both changed stays, and is reported once.
    lab.inside("settings.toml", "model = \"agent\"\n");
    lab.mine("settings.toml", "model = \"m10\"\n");
    lab.seed();
    assert_eq!(lab.copy("settings.toml"), "model = \"agent\"\n");
    let keys = vec!["model".to_owned()];
    let path = "settings.toml".to_owned();
    assert_eq!(lab.said, [Contest { path, keys }]);
    lab.seed();
    assert_eq!(lab.said, []);
    // A file that cannot be parsed as settings is not merged.
    lab.inside("settings.toml", "model = [");
    lab.mine("settings.toml", "model = \"m11\"\n");
    lab.seed();
    assert_eq!(lab.copy("settings.toml"), "model = [");
    assert_eq!(lab.said.len(), 1);
}

#[test]
fn a_login_is_the_users_and_ends_with_it() {
    let mut lab = Lab::new();
    lab.mine("auth.json", "{\"token\":\"a\"}");
    lab.mine("settings.toml", "a = 1\n");
    lab.mine("prompts/b", "one");
    lab.mine("prompts/c", "one");
    lab.seed();
    lab.inside("auth.json", "{\"token\":\"refreshed\"}");
    lab.seed();
    assert_eq!(lab.copy("auth.json"), "{\"token\":\"refreshed\"}");
    // A new login outside becomes valid inside, even if one was refreshed there.
    lab.mine("auth.json", "{\"token\":\"b\"}");
    lab.seed();
    assert_eq!(lab.copy("auth.json"), "{\"token\":\"b\"}");
    // A user who logs out outside is logged out inside, even if the agent has refreshed its own.
    lab.inside("auth.json", "{\"token\":\"refreshed\"}");
    lab.inside("prompts/c", "agent");
    for name in ["auth.json", "settings.toml", "prompts/b", "prompts/c"] {
        fs::remove_file(lab.base.join("mine").join(name)).unwrap();
    }
    lab.seed();
    let there = |name: &str| lab.path(name).exists();
    assert!(!there("auth.json") && !there("settings.toml") && !there("prompts/b"));
    assert_eq!((lab.copy("prompts/c").as_str(), lab.kept()), ("agent", 0));
    // A login that was made inside stays there.
    lab.inside("auth.json", "{\"token\":\"own\"}");
    lab.seed();
    assert_eq!(lab.copy("auth.json"), "{\"token\":\"own\"}");
}

#[test]
fn instructions_keep_what_each_side_wrote() {
    let mut lab = Lab::new();
    let block = |text: &str| {
        String::from_utf8(super::instructions::with(text.as_bytes(), "told\n")).unwrap()
    };
    lab.seed();
    assert_eq!(lab.copy("TOLD.md"), block(""), "without any of the user's");
    lab.mine("TOLD.md", "be brief");
    lab.seed();
    assert_eq!(lab.copy("TOLD.md"), block("be brief"));
    assert_eq!(lab.said, []);
    // The agent adds notes, and removes the text about the boundary.
    lab.inside("TOLD.md", "be brief\na note\n");
    lab.seed();
    assert_eq!(lab.copy("TOLD.md"), block("be brief\na note\n"));
    lab.mine("TOLD.md", "be long");
    lab.seed();
    assert_eq!(lab.copy("TOLD.md"), block("be brief\na note\n"));
    assert_eq!(lab.said.len(), 1);
    let mine = fs::read_to_string(lab.base.join("mine/TOLD.md")).unwrap();
    assert_eq!(mine, "be long", "the user's own is never written");
}

#[test]
fn nothing_that_the_agent_leaves_is_in_the_way() {
    type Act = fn(&Lab);
    let acts: [Act; 9] = [
        |lab| fs::create_dir_all(lab.path("config/full")).unwrap(),
        |lab| symlink(lab.base.join("victim/file"), lab.path("config")).unwrap(),
        |lab| symlink(lab.base.join("victim"), lab.path("prompts")).unwrap(),
        |lab| symlink("nowhere", lab.path("config")).unwrap(),
        |lab| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, lab.path("config"), fifo, mode, 0).unwrap();
        },
        |lab| fs::write(lab.path("prompts"), "a file").unwrap(),
        |lab| {
            fs::write(lab.path("config"), "x").unwrap();
            fs::set_permissions(lab.path("config"), fs::Permissions::from_mode(0o000)).unwrap();
        },
        |lab| {
            fs::create_dir_all(lab.path("prompts/deep")).unwrap();
            for name in ["prompts/deep", "prompts", ""] {
                fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o000)).unwrap();
            }
        },
        |lab| {
            fs::create_dir_all(lab.path("prompts/deep/a/b")).unwrap();
            fs::set_permissions(lab.path("prompts/deep"), fs::Permissions::from_mode(0o500))
                .unwrap();
        },
    ];
    for (number, act) in acts.iter().enumerate() {
        for first in [true, false] {
            let mut lab = Lab::new();
            if !first {
                lab.seed();
                fs::remove_file(lab.path("config")).unwrap();
                fs::remove_dir_all(lab.path("prompts")).unwrap();
            }
            act(&lab);
            lab.seed();
            // The agent's file stays if the user's did not change or was never copied; one that
            // cannot be read is put aside in favour of the user's.
            let is_root = rustix::process::geteuid().is_root();
            let expected = if number == 6 && (is_root || !first) {
                ["x", "one"]
            } else {
                ["one", "one"]
            };
            // Not even its owner can read such a file.
            if !(number == 6 && !first && !rustix::process::geteuid().is_root()) {
                let copies = ["config", "prompts/deep/a"].map(|name| lab.copy(name));
                assert_eq!(copies, expected, "{number} {first}");
            }
            assert_eq!(fs::read_dir(lab.base.join("victim")).unwrap().count(), 1);
            let victim = fs::read_to_string(lab.base.join("victim/file")).unwrap();
            assert_eq!(victim, "untouched");
        }
    }
}
