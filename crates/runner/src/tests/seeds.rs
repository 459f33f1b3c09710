//! What one session leaves for the next one's seeds.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use stockade_types::AbsPath;

use super::{Directory, Seeded};
use crate::facts::Caller;

struct Lab {
    _dir: tempfile::TempDir,
    base: PathBuf,
    seeded: Seeded,
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
        for name in ["config", "prompts"] {
            let from = self.base.join("mine").join(name);
            directory
                .seed(name.as_ref(), &from, &mut self.seeded, 0)
                .unwrap();
        }
        let list = self.base.join("list");
        self.seeded.write(&list).unwrap();
        self.seeded = Seeded::read(&list);
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
    // A time in the future decides nothing.
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
    fs::write(lab.base.join("mine/config"), "two").unwrap();
    lab.seed();
    assert_eq!((lab.copy("config").as_str(), lab.kept()), ("two", 1));
    // Nothing of the agent's is in the way: nothing is kept.
    touch(&lab);
    fs::write(lab.base.join("mine/config"), "three").unwrap();
    lab.seed();
    assert_eq!((lab.copy("config").as_str(), lab.kept()), ("three", 1));
    // The same content with other times is no change of the user.
    fs::write(lab.path("config"), "agent").unwrap();
    fs::write(lab.base.join("mine/config"), "three").unwrap();
    lab.seed();
    assert_eq!(lab.copy("config"), "agent");
    // What the agent removed is there again.
    fs::remove_file(lab.path("config")).unwrap();
    lab.seed();
    assert_eq!(lab.copy("config"), "three");
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
            // A file that the agent made unreadable is its own, if the user's did not change.
            let expected = if number == 6 && !first {
                ["x", "one"]
            } else {
                ["one", "one"]
            };
            // Such a file cannot be read by its owner either.
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
