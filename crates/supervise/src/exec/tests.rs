//! What is read of an execution, without a session.

use stockade_policy::ExecRequest;
use stockade_types::RawText;

use super::{is_loader, loader_program, script_arguments};

fn words(text: &str) -> Vec<RawText> {
    text.split(' ').map(RawText::from).collect()
}

#[test]
fn a_loader_runs_the_first_argument_that_is_no_option() {
    for name in ["ld-linux-x86-64.so.2", "ld-musl-aarch64.so.1", "ld-2.31.so"] {
        assert!(is_loader(name), "{name}");
    }
    for name in ["ld", "ldd", "ld-wrapper", "libc.so.6"] {
        assert!(!is_loader(name), "{name}");
    }
    for (argv, program) in [
        ("ld.so /bin/curl -v", Some("/bin/curl -v")),
        ("ld.so --list curl", Some("curl")),
        (
            "ld.so --preload x.so --inhibit-cache ./curl --help",
            Some("./curl --help"),
        ),
        ("ld.so --argv0 sh --library-path --list curl", Some("curl")),
        ("ld.so --library-path=x curl", Some("curl")),
        ("ld.so -v", Some("-v")),
        ("ld.so --preload curl", None),
        ("ld.so --argv0", None),
        ("ld.so", None),
    ] {
        let argv = words(argv);
        let found = loader_program(&argv).map(<[RawText]>::to_vec);
        assert_eq!(found, program.map(words), "{argv:?}");
    }
}

#[test]
fn an_interpreter_gets_the_arguments_that_the_kernel_gives_it() {
    let script = |argv: &str| ExecRequest {
        invoked_as: "./run".into(),
        argv: words(argv),
        ..ExecRequest::default()
    };
    let given = |argument: Option<&str>, argv: &str| {
        script_arguments(
            &"/bin/sh".into(),
            argument.map(RawText::from),
            &script(argv),
        )
    };
    assert_eq!(given(None, "name a b"), words("/bin/sh ./run a b"));
    assert_eq!(given(Some("-e -x"), "name"), {
        let mut all = words("/bin/sh");
        all.extend(["-e -x".into(), "./run".into()]);
        all
    });
    // A script without a name of its own still gets one.
    let none = ExecRequest {
        argv: Vec::new(),
        ..script("x")
    };
    assert_eq!(
        script_arguments(&"/bin/sh".into(), None, &none),
        words("/bin/sh ./run")
    );
}
