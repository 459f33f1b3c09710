/* Has another process make one system call, as code in it would: inject PID GATE NUMBER [ARGUMENT]...
   GATE is 64, or 32 for the old one. Prints what became of it: "result N" or "signal N". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

static int fail(const char *what) {
    perror(what);
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return 2;
    pid_t pid = atoi(argv[1]);
    long gate = atoi(argv[2]) == 32 ? 0x80cd : 0x050f; /* int 0x80, syscall */
    unsigned long argument[6] = {0};
    for (int i = 4; i < argc && i < 10; i++)
        argument[i - 4] = strtoul(argv[i], NULL, 0);
    int status;
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid)
        return fail("attach");
    struct user_regs_struct before, now;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &before))
        return fail("registers");
    errno = 0;
    long text = ptrace(PTRACE_PEEKTEXT, pid, (void *)before.rip, NULL);
    if (errno)
        return fail("peek");
    if (ptrace(PTRACE_POKETEXT, pid, (void *)before.rip, (void *)((text & ~0xffffL) | gate)))
        return fail("poke");
    now = before;
    now.orig_rax = -1; /* nothing is to be restarted */
    now.rax = strtoul(argv[3], NULL, 0);
    now.rdi = argument[0], now.rsi = argument[1], now.rdx = argument[2];
    now.r10 = argument[3], now.r8 = argument[4], now.r9 = argument[5];
    if (ptrace(PTRACE_SETREGS, pid, NULL, &now))
        return fail("set registers");
    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) || waitpid(pid, &status, __WALL) != pid)
        return fail("step");
    if (WIFSIGNALED(status)) {
        printf("signal %d\n", WTERMSIG(status));
        return 0;
    }
    if (WIFSTOPPED(status) && WSTOPSIG(status) != 5) {
        printf("signal %d\n", WSTOPSIG(status));
        return 0; /* the end of this process lets it go on, into that signal */
    }
    if (ptrace(PTRACE_GETREGS, pid, NULL, &now))
        return fail("registers after");
    printf("result %lld\n", (long long)now.rax);
    ptrace(PTRACE_POKETEXT, pid, (void *)before.rip, (void *)text);
    ptrace(PTRACE_SETREGS, pid, NULL, &before);
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return 0;
}
