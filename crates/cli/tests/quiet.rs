//! A quiet deny refuses like any other, but is counted in one line instead of reported.

use stockade_testkit::{TestEnv, env::User, lab::HttpServer};

#[test]
fn a_quiet_deny_is_one_line() {
    for user in User::all() {
        let env = TestEnv::of(user.as_deref());
        let repo = env.repo();
        let server = HttpServer::start();
        let port = server.port();
        let run = |quiet: &str| {
            let policy = env.write(
                "policy.toml",
                &format!(
                    "schema = 1\n[network.hosts]\n\"tell.test\" = \"127.0.0.1\"\n[[deny]]\nid = \"telemetry\"\n\
                     what = \"net\"\nhosts = [\"tell.test\"]\nreason = \"it tells its maker\"\n{quiet}"
                ),
            );
            let get = format!("curl -s -m 10 http://tell.test:{port}/; /run/stockade/why; :");
            let run = env.stockade().current_dir(repo.path());
            let run = run.args(["run", "--ask", "deny", "--policy"]).arg(policy);
            run.args(["--", "sh", "-c", &get]).output()
        };
        let show = || env.stockade().args(["show", "last"]).output().stdout;
        // The control: it is reported to the person who runs it, to the session, and in the
        // timeline.
        let loud = run("");
        assert!(loud.stderr.contains("refused"), "{loud:?}");
        assert!(loud.stdout.contains("it tells its maker"), "{loud:?}");
        assert!(show().contains("tell.test"));
        let quiet = run("quiet = true\n");
        assert!(!quiet.stdout.contains("it tells its maker"), "{quiet:?}");
        assert!(!quiet.stderr.contains("  refused "), "{quiet:?}");
        let line = "refused as wished: ";
        assert_eq!(quiet.stderr.matches(line).count(), 1, "{quiet:?}");
        assert_eq!(show().matches(line).count(), 1, "{}", show());
        assert!(!show().contains("telemetry: "), "{}", show());
        server.assert_untouched();
        // It is recorded like any other.
        let events = env.stockade().args(["events", "last", "--json"]).output();
        assert!(events.stdout.contains("telemetry"), "{events:?}");
        let wrong = run(
            "quiet = true\n[[allow]]\nid = \"a\"\nwhat = \"net\"\nhosts = [\"b.test\"]\nquiet = true\n",
        );
        wrong
            .assert_code(125)
            .assert_stderr("only a `[[deny]]` can be quiet");
    }
}
