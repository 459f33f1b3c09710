//! Opening files that another party controls, and handing over memory that it cannot change.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::symlink,
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};
use stockade_sys::{fd, landlock, walk};

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    let error = result.err()?;
    error.raw_os_error().map(Errno::from_raw_os_error)
}

#[test]
fn beneath_a_root_no_link_is_followed_and_no_way_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    fs::create_dir_all(root_path.join("a/b")).unwrap();
    fs::write(root_path.join("a/b/file"), "inside").unwrap();
    fs::write(dir.path().join("secret"), "outside").unwrap();
    symlink("b", root_path.join("a/link")).unwrap();
    symlink("../secret", root_path.join("out")).unwrap();
    symlink("/etc", root_path.join("etc")).unwrap();
    let root = File::open(&root_path).unwrap();
    let open = |path: &str| walk::open_beneath(&root, Path::new(path), OFlags::RDONLY);
    let mut text = String::new();
    File::from(open("a/b/file").unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "inside", "a plain path is opened");
    for (path, expected) in [
        ("a/link/file", Errno::LOOP),
        ("out", Errno::LOOP),
        ("etc/passwd", Errno::LOOP),
        ("../secret", Errno::XDEV),
        ("a/../../secret", Errno::XDEV),
        ("/etc/passwd", Errno::XDEV),
        ("a/b/none", Errno::NOENT),
    ] {
        assert_eq!(errno(open(path)), Some(expected), "{path}");
    }
}

#[test]
fn sealed_memory_is_read_from_its_start_and_cannot_be_changed() {
    let sealed = fd::sealed_memory("test", b"a plan").unwrap();
    let mut file = File::from(sealed);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a plan");
    assert_eq!(errno(file.write_all(b"x")), Some(Errno::PERM));
    assert_eq!(errno(file.set_len(0)), Some(Errno::PERM));
    assert_eq!(errno(file.set_len(100)), Some(Errno::PERM));
    let flags = rustix::io::fcntl_getfd(&file).unwrap();
    assert!(
        flags.contains(rustix::io::FdFlags::CLOEXEC),
        "no child inherits it"
    );
}

#[test]
fn the_thread_and_its_children_see_only_what_landlock_allows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    fs::write(path.join("file"), "x").unwrap();
    let rights = landlock::PathRights::Read;
    let confined = move || {
        stockade_sys::capability::set_no_new_privileges().unwrap();
        landlock::restrict(landlock::abi(), &[(path.clone(), rights)]).unwrap();
        let read = fs::read(path.join("file")).map(drop);
        let written = fs::write(path.join("new"), "x");
        let elsewhere = fs::read("/etc/passwd").map(drop);
        (errno(read), errno(written), errno(elsewhere))
    };
    // Control: this thread may read the file.
    fs::read("/etc/passwd").unwrap();
    let found = std::thread::spawn(confined).join().unwrap();
    assert_eq!(found, (None, Some(Errno::ACCESS), Some(Errno::ACCESS)));
    fs::write(dir.path().join("new"), "x").unwrap();
}
