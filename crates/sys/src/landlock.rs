//! Landlock: a second, independent restriction of the file view (landlock(7)).

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};

use crate::{Outcome, SysError};

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRights {
    /// Read, list and execute.
    Read,
    /// Read, write and execute existing files. The process cannot make, change or remove a name:
    /// the supervisor does that on its behalf if the policy allows it.
    Write,
}

/// The Landlock interface version of the running kernel, 0 if it has none.
pub fn abi() -> i32 {
    // LANDLOCK_CREATE_RULESET_VERSION with no attributes asks for the version.
    // SAFETY: a null pointer with size 0 is what this flag takes; nothing is written.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            1_u32,
        )
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

/// Rights to make, change and remove names.
const NAMES: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    MakeBlock | MakeChar | MakeDir | MakeFifo | MakeReg | MakeSock | MakeSym | Refer | RemoveDir
        | RemoveFile
});

fn known(abi: i32) -> ABI {
    ABI::from(abi)
}

/// Restricts the calling thread to `paths` for good; missing paths are an error.
///
/// From ABI 6 on it can also neither signal processes outside nor connect to their abstract
/// sockets. Everything that `abi` offers is required, not tried.
///
/// # Errors
/// When a path is missing or the kernel does not enforce all of it.
pub fn restrict(abi: i32, paths: &[(PathBuf, PathRights)]) -> Outcome<()> {
    let other =
        |e: &dyn std::fmt::Display| SysError::new("landlock", std::io::Error::other(e.to_string()));
    let version = known(abi);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(version))
        .map_err(|e| other(&e))?;
    if abi >= 6 {
        ruleset = ruleset
            .scope(Scope::from_all(version))
            .map_err(|e| other(&e))?;
    }
    let mut created = ruleset.create().map_err(|e| other(&e))?;
    for (path, rights) in paths {
        let fd = PathFd::new(path).map_err(|e| {
            SysError::on(
                "landlock: open",
                path.display(),
                std::io::Error::other(e.to_string()),
            )
        })?;
        let directory = path.is_dir();
        let access = match rights {
            PathRights::Read => AccessFs::from_read(version),
            PathRights::Write => AccessFs::from_all(version) & !NAMES,
        };
        let access = if directory {
            access
        } else {
            access & AccessFs::from_file(version)
        };
        created = created
            .add_rule(PathBeneath::new(fd, access))
            .map_err(|e| other(&e))?;
    }
    let status = created.restrict_self().map_err(|e| other(&e))?;
    if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs {
        return Ok(());
    }
    Err(other(&format!(
        "the kernel enforced only part of it ({:?})",
        status.ruleset
    )))
}

#[cfg(test)]
mod tests {
    use std::{fs, io, thread};

    use super::{PathRights, abi, restrict};

    #[test]
    fn what_is_there_can_be_written_and_no_name_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("there"), "before").unwrap();
        let rules = [
            ("/".into(), PathRights::Read),
            (dir.path().to_owned(), PathRights::Write),
        ];
        let outcomes = thread::scope(|scope| {
            let restricted = scope.spawn(|| -> Vec<io::Result<()>> {
                restrict(abi(), &rules).unwrap();
                vec![
                    fs::write(at("there"), "after"),
                    fs::write(at("new"), ""),
                    fs::create_dir(at("new")),
                    fs::rename(at("there"), at("new")),
                    fs::hard_link(at("there"), at("new")),
                    std::os::unix::fs::symlink("there", at("new")),
                    fs::remove_file(at("there")),
                    std::os::unix::net::UnixListener::bind(at("new")).map(drop),
                ]
            });
            restricted.join().unwrap()
        });
        let (written, names) = outcomes.split_first().unwrap();
        assert!(written.is_ok(), "{written:?}");
        for outcome in names {
            let errno = outcome.as_ref().unwrap_err().raw_os_error();
            assert_eq!(errno, Some(libc::EACCES), "{outcomes:?}");
        }
        assert_eq!(fs::read(at("there")).unwrap(), b"after");
        assert!(!at("new").exists());
    }
}
