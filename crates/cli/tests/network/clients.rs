//! The clients of people and agents download and publish over TLS that is opened, as they are: no
//! flag, no setting but where their packages come from.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer},
    events::{self, Event},
    lab::{Registry, TlsServer},
    run::require_tool,
};

use crate::network::for_each_user;

/// Time for a session of all clients, of which each takes about half a second on an idle machine.
const WHOLE: Duration = Duration::from_mins(2);

/// A client: the program, a line with `$U` for the registry, and what it prints if it worked.
struct Client {
    program: &'static str,
    line: &'static str,
    prints: &'static str,
}

const fn client(program: &'static str, line: &'static str, prints: &'static str) -> Client {
    Client {
        program,
        line,
        prints,
    }
}

const DOWNLOADS: [Client; 13] = [
    client("curl", "curl -sS $U/file", "a file"),
    client("wget", "wget -q -O - $U/file", "a file"),
    client(
        "git",
        "git clone -q $U/shop.git clone && ls clone/.git/HEAD",
        "clone/.git/HEAD",
    ),
    client(
        "npm",
        "mkdir n; cd n; npm init -y >/dev/null; npm_config_registry=$U/npm/ npm install --no-audit \
         --no-fund demo >/dev/null && node -p 'require(\"demo\")'",
        "demo",
    ),
    client(
        "node",
        "node -e 'fetch(process.env.U + \"/file\").then(r => r.text()).then(t => console.log(t))'",
        "a file",
    ),
    client(
        "pip3",
        "PIP_INDEX_URL=$U/simple/ pip3 download -q --no-cache-dir --disable-pip-version-check demo && ls *.whl",
        "demo-1.0.0-py3-none-any.whl",
    ),
    client(
        "python3",
        "/usr/bin/python3 -c 'import os, requests; print(requests.get(os.environ[\"U\"] + \"/file\").text)'",
        "a file",
    ),
    client(
        "python3",
        "/usr/bin/python3 -c 'import os, httpx; print(httpx.get(os.environ[\"U\"] + \"/file\").text)'",
        "a file",
    ),
    client(
        "python3",
        "/usr/bin/python3 -c 'import os, urllib.request as u; print(u.urlopen(os.environ[\"U\"] + \"/file\").read().decode())'",
        "a file",
    ),
    client(
        "go",
        "mkdir g; cd g; go mod init lab.test/own 2>/dev/null; GOSUMDB=off GOPROXY=$U/go go get lab.test/demo@v1.0.0 && grep demo go.mod",
        "lab.test/demo v1.0.0",
    ),
    client("java", "java -cp classes Get $U/file", "a file"),
    client(
        "cargo",
        "mkdir c; cd c; mkdir src; touch src/lib.rs; \
         printf '[package]\\nname = \"own\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n[dependencies]\\ndemo = { version = \"1\", registry = \"lab\" }\\n' > Cargo.toml; \
         CARGO_REGISTRIES_LAB_INDEX=sparse+$U/index/ PATH=$BIN:$PATH cargo fetch 2>&1",
        "Downloaded demo v1.0.0",
    ),
    client(
        "apt-get",
        "mkdir -p a/lists/partial a/archives/partial; cd a; echo \"deb [trusted=yes] $U/deb ./\" > sources; \
         apt-get -q -o Dir::State=$PWD -o Dir::State::Lists=lists -o Dir::Cache=$PWD -o Dir::Etc::SourceList=$PWD/sources \
         -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=$(id -un) update 2>&1 && \
         apt-get -q -o Dir::State=$PWD -o Dir::State::Lists=lists -o Dir::Cache=$PWD -o Dir::Etc::SourceList=$PWD/sources \
         -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=$(id -un) download demo 2>&1; ls *.deb",
        "demo_1.0.0_all.deb",
    ),
];

const JAVA: &str = "import java.net.URI; import java.net.http.*;
public class Get { public static void main(String[] args) throws Exception {
  var request = HttpRequest.newBuilder(URI.create(args[0])).build();
  System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
} }
";

/// A registry whose requests are read under one name and pass unread under another.
fn registry(env: &TestEnv, registry: Registry) -> (TlsServer, String) {
    let server = TlsServer::with(&["registry.test", "mirror.test"], move |request| {
        registry.answer(request)
    });
    let authority = env.write("authority.pem", server.certificate_pem());
    let port = server.port();
    let text = format!(
        "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
         \"registry.test\" = \"127.0.0.1\"\n\"mirror.test\" = \"127.0.0.1\"\n\
         [[allow]]\nid = \"read\"\nwhat = \"net\"\nhosts = [\"registry.test\"]\nports = [{port}]\n\
         methods = [\"GET\", \"HEAD\"]\nprivate = true\n\
         [[ask]]\nid = \"publish\"\nwhat = \"net\"\nhosts = [\"registry.test\"]\nports = [{port}]\n\
         methods = [\"PUT\", \"POST\"]\nprivate = true\n\
         [[allow]]\nid = \"fetch\"\nwhat = \"net\"\nhosts = [\"registry.test\"]\nports = [{port}]\n\
         methods = [\"POST\"]\npaths = [\"/*/git-upload-pack\"]\nprivate = true\n\
         [[allow]]\nid = \"mirror\"\nwhat = \"net\"\nhosts = [\"mirror.test\"]\nports = [{port}]\n\
         tls = \"splice\"\nprivate = true\n",
        authority.display()
    );
    let policy = env.write("policy.toml", &text);
    (server, policy.display().to_string())
}

/// Runs each client in a directory of its own, one after the other, and says how each ended.
fn script(host: &str, port: u16, clients: &[Client]) -> String {
    let mut text = format!("export BIN=$PWD/bin U=https://{host}:{port}; ");
    for (place, client) in clients.iter().enumerate() {
        write!(
            text,
            "mkdir {host}-{place}; cp -r classes {host}-{place}; (cd {host}-{place}; echo \"<{host} {place}>\"; {}; echo \"</{host} {place}>\"); ",
            client.line
        )
        .expect("a string takes everything");
    }
    text
}

fn said<'o>(output: &'o Output, host: &str, place: usize) -> &'o str {
    let begin = format!("<{host} {place}>\n");
    let (_, rest) = output.stdout.split_once(&begin).unwrap_or_default();
    let end = format!("</{host} {place}>");
    rest.split_once(&end).unwrap_or_default().0
}

/// What the clients need beside the registry: a class of Java, and a cargo that this user may run.
fn prepare(env: &TestEnv, workspace: &Path) {
    let classes = workspace.join("classes");
    env.write(classes.join("Get.java"), JAVA);
    env.command("javac")
        .args(["-d", ".", "Get.java"])
        .current_dir(&classes)
        .success();
    // Toolchains are in the home of whoever installed them, which no other user can read; and cargo
    // asks the compiler for nothing but what it is for.
    let asked = rustc(&PRINTS);
    let text = format!(
        "#!/bin/sh\ncase $1 in -vV) cat <<'EOF'\n{}EOF\n;; *) cat <<'EOF'\n{asked}EOF\n;; esac\n",
        rustc(&["-vV"])
    );
    let compiler = env.write(workspace.join("bin/rustc"), &text);
    let cargo = workspace.join("bin/cargo");
    let sysroot = rustc(&["--print", "sysroot"]);
    fs::copy(Path::new(sysroot.trim()).join("bin/cargo"), &cargo).expect("cargo can be read");
    for program in [compiler, cargo] {
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        env.own(&program);
    }
}

/// What cargo asks of the compiler for every target.
const PRINTS: [&str; 14] = [
    "-",
    "--crate-name",
    "___",
    "--crate-type=bin",
    "--crate-type=rlib",
    "--crate-type=dylib",
    "--crate-type=cdylib",
    "--crate-type=staticlib",
    "--crate-type=proc-macro",
    "--print=file-names",
    "--print=sysroot",
    "--print=split-debuginfo",
    "--print=crate-name",
    "--print=cfg",
];

/// Asks the compiler of the tests.
fn rustc(arguments: &[&str]) -> String {
    let output = Command::new("rustc")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("a toolchain is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A toolchain of Rust is in the home of whoever installed it, so that root alone can give it to both
/// users.
#[test]
fn clients_download_as_they_are_needs_root() {
    for client in DOWNLOADS {
        require_tool(client.program);
    }
    for_each_user(|env| {
        let repo = env.repo();
        prepare(env, repo.path());
        let (server, policy) = registry(env, Registry::new(env, &repo));
        let hosts = ["registry.test", "mirror.test"];
        let line: String = hosts
            .iter()
            .map(|host| script(host, server.port(), &DOWNLOADS))
            .collect();
        let output = env
            .session_with(repo.path(), &["--ask", "deny", "--policy", &policy])
            .timeout(WHOLE)
            .line(&line)
            .output();
        let mut failed = String::new();
        for host in hosts {
            for (place, client) in DOWNLOADS.iter().enumerate() {
                let said = said(&output, host, place);
                if !said.contains(client.prints) {
                    write!(failed, "{} from {host}: {said}\n---\n", client.line)
                        .expect("a string takes everything");
                }
            }
        }
        let mut refusals = env.record();
        refusals.retain(Event::is_refusal);
        assert!(
            failed.is_empty(),
            "{failed}\n{}\n{}",
            output.stderr,
            events::summary(&refusals)
        );
    });
}

/// What is published waits for the owner's answer, and arrives after a yes alone. Both users get the
/// toolchain of root.
#[test]
fn clients_publish_once_the_owner_agrees_needs_root() {
    for_each_user(|env| {
        let repo = env.repo();
        prepare(env, repo.path());
        let (server, policy) = registry(env, Registry::new(env, &repo));
        let port = server.port();
        let line = format!(
            "export BIN=$PWD/bin U=https://registry.test:{port}; \
             (mkdir n; cd n; npm init -y >/dev/null; echo //registry.test:{port}/npm/:_authToken=x > .npmrc; \
             npm_config_registry=$U/npm/ npm publish >/dev/null 2>&1; echo npm $?); \
             (mkdir c; cd c; mkdir src; touch src/lib.rs; \
             printf '[package]\\nname = \"own\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\nlicense = \"MIT\"\\ndescription = \"x\"\\n' > Cargo.toml; \
             CARGO_REGISTRIES_LAB_INDEX=sparse+$U/index/ CARGO_REGISTRIES_LAB_TOKEN=x PATH=$BIN:$PATH \
             cargo publish -q --no-verify --allow-dirty --registry lab; echo cargo $?); \
             git push -q $U/shop.git HEAD:refs/heads/topic; echo git $?; \
             curl -sS -T bin/rustc -w '%{{http_code}}\\n' $U/leak"
        );
        let running = env
            .session_with(repo.path(), &["--ask", "inbox", "--policy", &policy])
            .timeout(WHOLE)
            .line(&line)
            .spawn();
        let (output, asked) = approvals::answer_all(env, running, |asked| {
            if asked.mentions("leak") {
                return Answer::Deny {
                    reason: "not that".to_owned(),
                };
            }
            Answer::Allow {
                scope: "once".to_owned(),
            }
        });
        output
            .assert_stdout("npm 0")
            .assert_stdout("git 0")
            .assert_stdout("not that");
        let requests = server.requests();
        let written: Vec<_> = requests
            .iter()
            .filter(|request| request.method != "GET")
            .map(|request| format!("{} {}", request.method, request.path()))
            .collect();
        assert_eq!(
            written,
            [
                "PUT /npm/n",
                "PUT /api/v1/crates/new",
                "POST /shop.git/git-receive-pack"
            ],
            "{output:?} {asked:?}"
        );
    });
}
