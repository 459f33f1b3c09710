//! Debuggers, tracers and leak checkers on their own processes.

use crate::conformance::row::{Group::Debuggers, Need::System, Row, row};

const PROGRAM: &str = "
printf '#include <stdio.h>\\n#include <unistd.h>\\nint f(int a){return a+1;}\\nint main(int c,char**v){if(c>1)sleep(20);printf(\"%%d\\\\n\",f(41));return 0;}\\n' > a.c
gcc -g -O0 -o a a.c
";

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Debuggers, "gdb", "gdb: breakpoint, arguments, step, to the end")
        .needs(&[System("gdb", "gdb"), System("gcc", "gcc")])
        .versions("gdb --version | head -1")
        .setup(PROGRAM)
        .run("gdb -q -batch -ex 'break f' -ex run -ex 'print a' -ex next -ex continue ./a | tee log; grep -q '= 41' log; grep -q 'exited normally' log"),
    row(Debuggers, "gdb-attach", "gdb attaches to a process of the same shell")
        .needs(&[System("gdb", "gdb"), System("gcc", "gcc")])
        .setup(PROGRAM)
        .run("./a wait & p=$!; sleep 0.3; gdb -q -batch -p $p -ex bt ./a > log 2>&1; kill $p; grep -q 'in main' log"),
    row(Debuggers, "strace", "strace follows a program and its children")
        .needs(&[System("strace", "strace")])
        .versions("strace --version | head -1")
        .run("strace -f -o log sh -c '/bin/true; echo hi'; grep -q execve log; grep -q exit_group log"),
    row(Debuggers, "asan-leak", "LeakSanitizer finds a leak, and none where there is none")
        .needs(&[System("gcc", "gcc")])
        .setup("printf '#include <stdlib.h>\\nint main(int c,char**v){char*volatile p=malloc(9);if(c<2)free(p);p=0;return 0;}\\n' > a.c; gcc -g -fsanitize=address -o a a.c")
        .run("./a; ! ./a leak 2> log; grep -q 'detected memory leaks' log"),
    row(Debuggers, "valgrind", "Valgrind checks a program")
        .needs(&[System("valgrind", "valgrind"), System("gcc", "gcc")])
        .versions("valgrind --version")
        .setup(PROGRAM)
        .run("valgrind -q --error-exitcode=9 ./a"),
];
