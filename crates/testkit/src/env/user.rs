//! Users of the machine, as `/etc/passwd` lists them.

use std::fs;

/// A user of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
}

impl User {
    /// The ordinary user that tests run as: `STOCKADE_TEST_USER`, else `stockade-test`, which
    /// `cargo xtask test` makes.
    pub fn ordinary_name() -> String {
        std::env::var("STOCKADE_TEST_USER").unwrap_or_else(|_| "stockade-test".to_owned())
    }

    /// Returns the users as which an escape test runs: root and the ordinary user if the tests run
    /// as root and do not run as that user afterwards (`STOCKADE_TEST_USER_FOLLOWS`, which `cargo
    /// xtask test` sets), otherwise only the current user. `None` is the current user.
    pub fn all() -> Vec<Option<String>> {
        let follows = std::env::var_os("STOCKADE_TEST_USER_FOLLOWS").is_some();
        if rustix::process::geteuid().is_root() && !follows {
            vec![None, Some(Self::ordinary_name())]
        } else {
            vec![None]
        }
    }

    /// Returns the user for a test that needs an ordinary one: `None` if the tests already run as
    /// one.
    pub fn ordinary() -> Option<String> {
        rustix::process::geteuid()
            .is_root()
            .then(Self::ordinary_name)
    }

    /// Finds a user by name; ends the test if there is none.
    pub fn find(name: &str) -> Self {
        Self::list()
            .into_iter()
            .find(|user| user.name == name)
            .unwrap_or_else(|| {
                panic!(
                    "the user `{name}` does not exist; run `useradd --create-home {name}` as root"
                )
            })
    }

    /// Returns the user who runs the tests.
    pub fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self::list()
            .into_iter()
            .find(|user| user.uid == uid)
            .unwrap_or_else(|| panic!("/etc/passwd has no user with the id {uid}"))
    }

    /// Returns whether the tests already run as this user.
    pub fn is_current(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }

    fn list() -> Vec<Self> {
        let text = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        text.lines().filter_map(Self::parse).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { name, uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::User;

    #[test]
    fn users_are_read_as_passwd_5_has_them() {
        let user = User::parse("dev:x:1001:1002:Dev,,,:/home/dev:/bin/sh");
        assert_eq!(
            user,
            Some(User {
                name: "dev".into(),
                uid: 1001,
                gid: 1002
            })
        );
        assert_eq!(User::parse("broken:x:"), None);
        assert_eq!(User::find("root").uid, 0);
        assert!(User::current().is_current());
    }
}
