//! The directory of a server.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use stockade_control::{ControlError, DataDir, Settings};

use crate::common::settings;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_is_made_once_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let missing = DataDir::open(&path).unwrap_err();
    assert!(
        matches!(missing, ControlError::NotInitialised { .. }),
        "{missing}"
    );
    DataDir::init(&path, &settings()).unwrap();
    let again = DataDir::init(&path, &settings()).unwrap_err();
    assert!(matches!(again, ControlError::Wrong { .. }), "{again}");
    assert_eq!(mode(&path), 0o700);
    let mut keys = 0;
    for entry in fs::read_dir(path.join("keys")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
        keys += 1;
    }
    // Four that sign, and the key and certificate of the authority.
    assert_eq!(keys, 6);
    assert_eq!(DataDir::open(&path).unwrap().1, settings());
}

#[test]
fn a_directory_that_others_enter_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    DataDir::init(&path, &settings()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = DataDir::open(&path).unwrap_err();
    assert!(matches!(error, ControlError::Wrong { .. }), "{error}");
}

#[test]
fn one_directory_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let data = DataDir::init(&path, &settings()).unwrap();
    let lease = data.lease().unwrap();
    let second = DataDir::open(&path).unwrap().0.lease().unwrap_err();
    assert!(matches!(second, ControlError::InUse { .. }), "{second}");
    drop(lease);
    data.lease().unwrap();
}

#[test]
fn names_that_passkeys_cannot_have_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for host in ["", "192.0.2.7", "a b", "-", "x/y"] {
        let wrong = Settings {
            host: host.to_owned(),
            ..settings()
        };
        let error = DataDir::init(&dir.path().join("data"), &wrong).unwrap_err();
        assert!(
            matches!(error, ControlError::Value { .. }),
            "{host}: {error}"
        );
    }
    for org in ["", "a b", "a/b", "..", &"x".repeat(65)] {
        let wrong = Settings {
            org: org.to_owned(),
            ..settings()
        };
        assert!(
            DataDir::init(&dir.path().join("data"), &wrong).is_err(),
            "{org}"
        );
    }
}
