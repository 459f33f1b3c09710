//! Rules about how old versions of packages are, with real clients and their registry.

use stockade_testkit::{
    TestEnv, events,
    lab::{Registry, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// Everything that clients do: old versions, young ones, and addresses that they would not use. Each line
/// says what it did.
const LINE: &str = r#"
pip() { python3 -m pip download -q --no-cache-dir --no-deps --disable-pip-version-check "$@" 2>&1; }
npm() { command npm install --no-audit --no-fund --loglevel error "$@" 2>&1; }
export npm_config_registry=$U/npm/ PIP_INDEX_URL=$U/dated/simple/
mkdir n; cd n; echo '{}' > package.json
PIP_INDEX_URL=$U/simple/ pip demo==1.0.0 -d undated; echo pip undated $?
npm demo@1.0.0; echo npm old $?
npm demo@2.0.0; echo npm young $?
pip demo==1.0.0; echo pip old $?
pip demo==2.0.0; echo pip young $?
for path in npm/demo/-/demo-2.0.0.tgz?x npm//demo/-/demo-2.0.0.tgz npm/demo/-/demo-9.0.0.tgz \
    npm/x/-/demo-2.0.0.tgz files/demo-2.0.0-py3-none-any.whl; do
  curl -s -o /dev/null --path-as-is -w "%{http_code} " "$U/$path"
done
echo; curl -s -o /dev/null -w 'description %{http_code}\n' $U/npm/demo
"#;

/// Runs it, with a rule in addition to one that allows everything; returns what was said.
fn run(env: &TestEnv, rule: &str) -> (String, TlsServer) {
    for tool in ["npm", "curl", "python3"] {
        require_tool(tool);
    }
    let repo = env.repo();
    let registry = Registry::new(env, &repo);
    let server = TlsServer::with(&["registry.test"], move |request| registry.answer(request));
    let authority = env.write("authority.pem", server.certificate_pem());
    let port = server.port();
    let hosts = format!("hosts = [\"registry.test\"]\nports = [{port}]");
    let text = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"registry.test\" = \
         \"127.0.0.1\"\n[[allow]]\nid = \"all\"\nwhat = \"net\"\n{hosts}\nprivate = true\n\
         tls = \"inspect\"\n{}",
        authority.display(),
        rule.replace("HOSTS", &hosts)
    );
    let policy = env.write("policy.toml", &text).display().to_string();
    let output = env
        .session_with(repo.path(), &["--ask", "deny", "--policy", &policy])
        .env("U", format!("https://registry.test:{port}"))
        .line(format!("export U=https://registry.test:{port}\n{LINE}"))
        .output();
    (format!("{}{}", output.stdout, output.stderr), server)
}

/// A version that was just published is refused with the reason, in the words of its client, and does not
/// leave its registry; an old one is installed. Where nobody can tell how old one is, it is refused too.
#[test]
fn young_versions_are_not_downloaded() {
    for_each_user(|env| {
        let rule = "[[deny]]\nid = \"young\"\nwhat = \"package\"\nHOSTS\necosystems = [\"npm\", \
                    \"pypi\"]\nyounger_than = \"7d\"\n";
        let (said, server) = run(env, rule);
        let record = events::summary(&env.record());
        for line in [
            "npm old 0",
            "npm young 1",
            "pip old 0",
            "pip young 1",
            "pip undated 1",
            "403 403 403 403 403 \n",
            "description 200",
            "npm error 403 403 Forbidden: denied by stockade by the rule `young`: download ",
            "download demo 2.0.0 (npm, published ",
            "HTTP error 403 Client Error: Forbidden: denied by stockade by the rule `young`: download \
             demo 2.0.0 (pypi, published ",
            "of unknown age: `registry.test` describes it in a form that does not say its age",
        ] {
            assert!(said.contains(line), "{line}\n{said}\n{record}");
        }
        let files: Vec<String> = server
            .requests()
            .iter()
            .map(|request| request.path().to_owned())
            .filter(|path| [Some("tgz"), Some("whl")].contains(&path.rsplit('.').next()))
            .collect();
        assert_eq!(
            files,
            [
                "/npm/demo/-/demo-1.0.0.tgz",
                "/files/demo-1.0.0-py3-none-any.whl"
            ],
            "{said}\n{record}"
        );
    });
}

/// Without the rule, the same passes.
#[test]
fn without_a_rule_about_ages_young_versions_are_downloaded() {
    let env = TestEnv::of(None);
    let (said, server) = run(&env, "");
    for line in ["npm young 0", "pip young 0", "pip undated 0"] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let young = |path: &str| server.requests().iter().any(|one| one.path() == path);
    assert!(young("/npm/demo/-/demo-2.0.0.tgz") && young("/files/demo-2.0.0-py3-none-any.whl"));
}
