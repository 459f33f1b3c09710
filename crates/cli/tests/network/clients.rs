//! The clients of people and agents download and publish over TLS that is opened, as they are: no
//! flag, no setting but where their packages come from.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use stockade_testkit::{
    Output, TestEnv, agents,
    approvals::{self, Answer},
    events::{self, Event},
    lab::{LibraryServer, Registry, TlsServer},
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

const DOWNLOADS: [Client; 16] = [
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
    client(
        "python3",
        "UV_DEFAULT_INDEX=$U/simple/ $LIBRARIES/bin/uv pip install -q --target t demo && ls t/demo.py",
        "t/demo.py",
    ),
    client(
        "python3",
        "PYTHONPATH=$LIBRARIES /usr/bin/python3 ../call.py $CALLS",
        "said counted 0 1 2 chat a b c",
    ),
    client(
        "python3",
        "PYTHONPATH=$LIBRARIES /usr/bin/python3 ../talk.py wss://$SOCKETS/",
        "one two three",
    ),
];

/// A client with the library `grpcio`: one answer, a stream of them with trailers, and both at once.
const CALL: &str = r#"
import grpc, sys
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())
said, call = channel.unary_unary("/lab.Demo/Say").with_call(b"hello", timeout=20)
assert said == b"hello", said
trailer = lambda call: call.trailing_metadata()[0].value
counted = channel.unary_stream("/lab.Demo/Count")(b"3", timeout=20)
numbers = [number.decode() for number in counted]
chat = channel.stream_stream("/lab.Demo/Chat")(iter([b"a", b"b", b"c"]), timeout=20)
chat = [word.decode() for word in chat]
print(trailer(call), trailer(counted), *numbers, "chat", *chat)
if len(sys.argv) > 2:
    try:
        channel.unary_unary(sys.argv[2])(b"secret", timeout=20)
    except grpc.RpcError as error:
        print(error.code(), error.details())
"#;

/// A client with the library `websockets`.
const TALK: &str = r#"
import sys
from websockets.sync.client import connect
with connect(sys.argv[1]) as socket:
    back = []
    for message in ["one", "two", "three"]:
        socket.send(message)
        back.append(socket.recv(timeout=20))
print(*back)
"#;

const JAVA: &str = "import java.net.URI; import java.net.http.*;
public class Get { public static void main(String[] args) throws Exception {
  var request = HttpRequest.newBuilder(URI.create(args[0])).build();
  System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
} }
";

/// Servers whose requests are read under one name and pass unread under another.
struct Lab {
    registry: TlsServer,
    calls: LibraryServer,
    sockets: LibraryServer,
    policy: String,
}

impl Lab {
    fn new(env: &TestEnv, registry: Registry) -> Self {
        let names = ["registry.test", "mirror.test"];
        let registry = TlsServer::with(&names, move |request| registry.answer(request));
        let calls = LibraryServer::grpc(env, &names);
        let sockets = LibraryServer::websockets(env, &names);
        let authorities = [
            registry.certificate_pem(),
            calls.certificate_pem(),
            sockets.certificate_pem(),
        ];
        let authorities = env.write("authority.pem", &authorities.concat());
        let ports = [registry.port(), calls.port(), sockets.port()];
        let hosts = format!("hosts = [\"registry.test\"]\nports = {ports:?}\n");
        let text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\
             \"registry.test\" = \"127.0.0.1\"\n\"mirror.test\" = \"127.0.0.1\"\n\
             [[allow]]\nid = \"read\"\nwhat = \"net\"\n{hosts}private = true\nmethods = [\"GET\", \"HEAD\"]\n\
             [[ask]]\nid = \"publish\"\nwhat = \"net\"\n{hosts}private = true\nmethods = [\"PUT\", \"POST\"]\n\
             [[allow]]\nid = \"fetch\"\nwhat = \"net\"\n{hosts}private = true\nmethods = [\"POST\"]\n\
             paths = [\"/*/git-upload-pack\", \"/lab.Demo/*\"]\n\
             [[deny]]\nid = \"drop\"\nwhat = \"net\"\nhosts = [\"registry.test\"]\nports = [{}]\n\
             paths = [\"/lab.Demo/Drop\"]\n\
             [[allow]]\nid = \"mirror\"\nwhat = \"net\"\nhosts = [\"mirror.test\"]\nports = {ports:?}\n\
             tls = \"splice\"\nprivate = true\n",
            authorities.display(),
            calls.port()
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        Self {
            registry,
            calls,
            sockets,
            policy,
        }
    }

    /// Sets what the lines of clients name.
    fn variables(&self, host: &str) -> String {
        format!(
            "export BIN=$PWD/bin LIBRARIES=$PWD/libraries U=https://{host}:{} CALLS={host}:{} \
             SOCKETS={host}:{}; ",
            self.registry.port(),
            self.calls.port(),
            self.sockets.port()
        )
    }
}

/// Runs each client in a directory of its own, one after the other, and says how each ended.
fn script(host: &str, lab: &Lab, clients: &[Client]) -> String {
    let mut text = lab.variables(host);
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

/// What the clients need beside the servers: a class of Java, a cargo that this user may run, and what
/// is installed for Python.
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
    let uv = prepare_python(env, workspace);
    for program in [compiler, cargo, uv] {
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        env.own(&program);
    }
}

/// What is installed for Python, and programs that use it; returns where uv is.
fn prepare_python(env: &TestEnv, workspace: &Path) -> PathBuf {
    let libraries = workspace.join("libraries");
    // The directory may be one that no other user can read.
    let mut copy = Command::new("cp");
    copy.arg("-r").args([&agents::python(), &libraries]);
    assert!(
        copy.status().is_ok_and(|status| status.success()),
        "{copy:?}"
    );
    env.write(workspace.join("call.py"), CALL);
    env.write(workspace.join("talk.py"), TALK);
    libraries.join("bin/uv")
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
        let lab = Lab::new(env, Registry::new(env, &repo));
        let hosts = ["registry.test", "mirror.test"];
        let line: String = hosts
            .iter()
            .map(|host| script(host, &lab, &DOWNLOADS))
            .collect();
        let output = env
            .session_with(repo.path(), &["--ask", "deny", "--policy", &lab.policy])
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

/// A call that is denied ends with the status and the words of the decision, and does not arrive.
#[test]
fn denied_calls_end_with_the_reason() {
    for_each_user(|env| {
        let repo = env.repo();
        prepare_python(env, repo.path());
        let lab = Lab::new(env, Registry::new(env, &repo));
        let line = format!(
            "{} PYTHONPATH=$LIBRARIES /usr/bin/python3 call.py $CALLS /lab.Demo/Drop",
            lab.variables("registry.test")
        );
        let output = env
            .session_with(repo.path(), &["--ask", "deny", "--policy", &lab.policy])
            .line(&line)
            .output();
        output
            .assert_stdout("said counted 0 1 2 chat a b c")
            .assert_stdout("StatusCode.PERMISSION_DENIED denied by stockade by the rule `drop`")
            .assert_stdout("/lab.Demo/Drop");
        assert_eq!(
            lab.calls.arrived(),
            ["Say hello", "Count 3", "Chat a", "Chat b", "Chat c"]
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
        let lab = Lab::new(env, Registry::new(env, &repo));
        let port = lab.registry.port();
        let wheel = repo.path().join("demo-1.0.0-py3-none-any.whl");
        fs::copy(env.root().join("registry/demo.whl"), &wheel).expect("it was just made");
        env.own(&wheel);
        let line = format!(
            "{} (mkdir n; cd n; npm init -y >/dev/null; echo //registry.test:{port}/npm/:_authToken=x > .npmrc; \
             npm_config_registry=$U/npm/ npm publish >/dev/null 2>&1; echo npm $?); \
             (mkdir c; cd c; mkdir src; touch src/lib.rs; \
             printf '[package]\\nname = \"own\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\nlicense = \"MIT\"\\ndescription = \"x\"\\n' > Cargo.toml; \
             CARGO_REGISTRIES_LAB_INDEX=sparse+$U/index/ CARGO_REGISTRIES_LAB_TOKEN=x PATH=$BIN:$PATH \
             cargo publish -q --no-verify --allow-dirty --registry lab; echo cargo $?); \
             UV_PUBLISH_TOKEN=x UV_PUBLISH_URL=$U/legacy/ $LIBRARIES/bin/uv publish -q *.whl; echo uv $?; \
             git push -q $U/shop.git HEAD:refs/heads/topic; echo git $?; \
             curl -sS -T bin/rustc -w '%{{http_code}}\\n' $U/leak",
            lab.variables("registry.test")
        );
        let running = env
            .session_with(repo.path(), &["--ask", "inbox", "--policy", &lab.policy])
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
            .assert_stdout("uv 0")
            .assert_stdout("git 0")
            .assert_stdout("not that");
        let requests = lab.registry.requests();
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
                "POST /legacy/",
                "POST /shop.git/git-receive-pack"
            ],
            "{output:?} {asked:?}"
        );
    });
}
