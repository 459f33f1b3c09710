/* Tries to leave the scope of its command: by the limit that marks it, in every form of the call, and by
 * becoming nobody's child. What succeeds is said on standard output. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef RLIMIT_RTTIME
#define RLIMIT_RTTIME 15
#endif

struct limit { unsigned long soft, hard; };

static void said(const char *what, long result) {
    if (result == 0) printf("changed by %s\n", what);
    else if (errno != EPERM) printf("%s: %s\n", what, strerror(errno));
}

static void try_all(void) {
    struct limit lower = {1000, 1000}, now = {0, 0};
    said("setrlimit", syscall(SYS_setrlimit, RLIMIT_RTTIME, &lower));
    said("setrlimit with upper bits", syscall(SYS_setrlimit, RLIMIT_RTTIME | 1UL << 40, &lower));
    said("prlimit64", syscall(SYS_prlimit64, 0, RLIMIT_RTTIME, &lower, NULL));
    said("prlimit64 of the parent", syscall(SYS_prlimit64, getppid(), RLIMIT_RTTIME, &lower, NULL));
    said("prlimit64 with upper bits", syscall(SYS_prlimit64, 0, RLIMIT_RTTIME | 1UL << 40, &lower, NULL));
    /* A pointer whose lower half is zero. */
    void *low = mmap((void *)0x100000000UL, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (low == MAP_FAILED) printf("no page there\n");
    else {
        memcpy(low, &lower, sizeof lower);
        said("prlimit64 through a page at 4 GiB", syscall(SYS_prlimit64, 0, RLIMIT_RTTIME, low, NULL));
    }
    /* To read it is allowed, and all other limits can be lowered. */
    if (syscall(SYS_prlimit64, 0, RLIMIT_RTTIME, NULL, &now) != 0) printf("cannot be read\n");
    struct limit files = {32, 32};
    if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &files, NULL) != 0) printf("no files: %s\n", strerror(errno));
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    try_all();
    fflush(stdout);
    if (fork() != 0) { wait(NULL); return 0; }
    setsid();
    pid_t parent = getpid();
    if (fork() != 0) _exit(0);
    /* The parent is gone, and nobody waits. */
    while (getppid() == parent) usleep(1000);
    int file = open(argv[1], O_CREAT | O_WRONLY, 0600);
    if (file >= 0) close(file);
    execl("/bin/sh", "sh", "-c", "echo x > later", (char *)NULL);
    return 1;
}
