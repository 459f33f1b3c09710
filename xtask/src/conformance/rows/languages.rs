//! Compilers, interpreters and the tools around them.

use crate::conformance::row::{
    Group::Languages,
    Need::{Npm, Pip, Rust, System},
    Row, row,
};

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Languages, "c-make", "C with make and gcc, parallel")
        .needs(&[System("make", "make"), System("gcc", "gcc")])
        .versions("gcc --version | head -1; make --version | head -1")
        .setup("for i in 1 2 3 4; do echo \"int f$i(void){return $i;}\" > f$i.c; done; echo 'int main(void){return 0;}' > main.c; printf 'app: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n\\tcc -o $@ $^\\n' > Makefile")
        .run("make -j4; ./app"),
    row(Languages, "rust", "Rust: build, test, clippy of a project without dependencies")
        .needs(&[Rust, System("cc", "gcc")])
        .setup("cargo init -q --vcs none --lib --name app")
        .run("cargo build -q; cargo test -q; cargo fmt --check")
        .seconds(240),
    row(Languages, "cargo-proc", "Rust: a procedural macro and a build script")
        .needs(&[Rust, System("cc", "gcc")])
        .setup("cargo init -q --vcs none --name app; cargo init -q --vcs none --lib --name mac mac; printf '[lib]\\nproc-macro = true\\n' >> mac/Cargo.toml; echo 'use proc_macro::TokenStream; #[proc_macro] pub fn three(_: TokenStream) -> TokenStream { \"3\".parse().unwrap() }' > mac/src/lib.rs; printf 'mac = { path = \"mac\" }\\n' >> Cargo.toml; echo 'fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }' > build.rs; echo 'fn main() { assert_eq!(mac::three!(), 3); }' > src/main.rs")
        .run("cargo run -q")
        .seconds(240),
    row(Languages, "go", "Go: build, test, vet")
        .needs(&[System("go", "golang-go"), System("gcc", "gcc")])
        .versions("go version")
        .setup("mkdir -p ~/go/pkg/mod; go mod init lab.test/app; printf 'package main\\nimport \"fmt\"\\nfunc main() { fmt.Println(\"hi\") }\\n' > main.go; printf 'package main\\nimport \"testing\"\\nfunc TestA(t *testing.T) {}\\n' > main_test.go")
        .run("go build ./...; go test ./...; go vet ./...; go run .")
        .seconds(240),
    row(Languages, "go-interfaces", "Go lists the network interfaces")
        .needs(&[System("go", "golang-go")])
        .setup("go mod init lab.test/app; printf 'package main\\nimport (\"fmt\"; \"net\")\\nfunc main() { i, e := net.Interfaces(); if e != nil { panic(e) }; fmt.Println(i[0].Name) }\\n' > main.go")
        .run("CGO_ENABLED=0 go run . | grep -q lo")
        .seconds(240),
    row(Languages, "java", "Java: compile and run")
        .needs(&[System("javac", "default-jdk-headless")])
        .versions("javac --version")
        .setup("echo 'class A { public static void main(String[] a) throws Exception { System.out.println(java.net.NetworkInterface.getNetworkInterfaces().nextElement().getName()); } }' > A.java")
        .run("javac A.java; java A"),
    row(Languages, "node-test", "Node: its test runner, workers, a child process")
        .needs(&[System("node", "nodejs")])
        .versions("node --version")
        .setup("printf \"const t=require('node:test'),a=require('assert');t('x',()=>a.ok(1));t('w',async()=>{const{Worker}=require('worker_threads');await new Promise(r=>new Worker('1',{eval:true}).on('exit',r))});t('c',()=>a.equal(require('child_process').execFileSync('echo',['x'])+'','x\\\\\\\\n'))\" > a.test.js")
        .run("node --test"),
    row(Languages, "node-networkinterfaces", "Node lists the network interfaces")
        .needs(&[System("node", "nodejs")])
        .run("node -p 'Object.keys(require(\"os\").networkInterfaces())' | grep -q lo"),
    row(Languages, "typescript", "TypeScript compiles and runs")
        .needs(&[System("node", "nodejs"), Npm(&["typescript@5"])])
        .versions("tsc --version")
        .setup("echo 'const a: number = 1; console.log(a)' > a.ts")
        .run("tsc a.ts; node a.js"),
    row(Languages, "py-psutil", "Python: pytest with psutil, multiprocessing, interfaces")
        .needs(&[System("python3", "python3"), Pip(&["pytest", "psutil"])])
        .versions("pytest --version")
        .setup("printf 'import multiprocessing, psutil, socket\\ndef test_a():\\n    assert psutil.net_if_addrs()\\n    assert psutil.Process().name()\\n    assert socket.if_nameindex()\\ndef test_m():\\n    with multiprocessing.Pool(2) as p: assert p.map(abs, [-1]) == [1]\\n' > test_a.py")
        .run("pytest -q"),
    row(Languages, "ruby", "Ruby runs, with its own tests")
        .needs(&[System("ruby", "ruby")])
        .versions("ruby --version")
        .setup("echo 'require \"socket\"; raise unless Socket.getifaddrs.any?; puts 1' > a.rb")
        .run("ruby a.rb"),
    row(Languages, "php", "PHP runs, and its web server answers")
        .needs(&[System("php", "php-cli"), System("curl", "curl")])
        .versions("php --version | head -1")
        .setup("echo '<?php echo \"hi\";' > index.php")
        .run("php -S 127.0.0.1:8000 >/dev/null 2>&1 & p=$!; for i in $(seq 50); do curl -sf http://127.0.0.1:8000/ && break; sleep 0.1; done | grep -q hi; kill $p"),
    row(Languages, "perl", "Perl runs and forks")
        .needs(&[System("perl", "perl")])
        .run("perl -e 'my $p = fork; exit 0 unless $p; waitpid $p, 0; print \"ok\\n\"'"),
];
