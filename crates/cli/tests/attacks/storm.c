/* Makes random system calls for a while: storm SEED SECONDS. Only for the inside of a session; it
   says how many calls it made. What ends or stops the caller itself is left out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long long state;
static unsigned long next(unsigned long below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned long)(state >> 33) % below;
}

static char names[16][64] = {"a", "b", "d", "d/a", ".git", ".git/config", ".envrc", "/proc/self/fd/3", "/dev/null",
    "/tmp/x", "..", ".", "/proc/self/mem", "/dev/tty", "l", "/"};
static char *buffer;

static unsigned long argument(void) {
    switch (next(9)) {
    case 0: return next(8);
    case 1: return (unsigned long)names[next(16)];
    case 2: return (unsigned long)(buffer + next(4096));
    case 3: return 1UL << next(33);
    case 4: return (unsigned long)-1;
    case 5: return (unsigned long)-100; /* AT_FDCWD */
    case 6: return next(4096);
    case 7: return 0;
    default: return state;
    }
}

/* What would end, stop or blind the caller, or fill the machine. */
static int is_left_out(long call) {
    static const long out[] = {SYS_exit, SYS_exit_group, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_pause, SYS_kill, SYS_tkill,
        SYS_tgkill, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_munmap,
        SYS_mremap, SYS_mprotect, SYS_brk, SYS_alarm, SYS_setitimer, SYS_nanosleep, SYS_clock_nanosleep, SYS_select, SYS_pselect6,
        SYS_poll, SYS_ppoll, SYS_epoll_wait, SYS_epoll_pwait, SYS_futex, SYS_wait4, SYS_waitid, SYS_read, SYS_readv, SYS_recvfrom,
        SYS_recvmsg, SYS_recvmmsg, SYS_accept, SYS_accept4, SYS_flock, SYS_fcntl, SYS_semop, SYS_semtimedop, SYS_msgrcv, SYS_msgsnd,
        SYS_mq_timedreceive, SYS_mq_timedsend, SYS_seccomp, SYS_prctl, SYS_setrlimit, SYS_prlimit64, SYS_ptrace, SYS_pkey_mprotect,
        SYS_madvise, SYS_set_robust_list, SYS_set_tid_address, SYS_arch_prctl, SYS_rseq, SYS_fallocate, SYS_ftruncate, SYS_truncate,
        SYS_mmap, SYS_shmat, SYS_personality, SYS_sigaltstack, SYS_restart_syscall, SYS_mlock, SYS_mlockall, SYS_io_getevents, 333, 441, 449};
    for (unsigned i = 0; i < sizeof out / sizeof *out; i++) if (out[i] == call) return 1;
    return 0;
}

static unsigned long storm(time_t end) {
    unsigned long made = 0;
    while (time(0) < end) {
        for (int i = 0; i < 256; i++) {
            long call = (long)next(2) ? (long)next(470) : (long[]){SYS_openat, SYS_rename, SYS_renameat2, SYS_link, SYS_linkat, SYS_symlink,
                SYS_mkdir, SYS_unlink, SYS_unlinkat, SYS_bind, SYS_chmod, SYS_mknod, SYS_umask, SYS_execve, SYS_ioctl, SYS_socket}[next(16)];
            if (is_left_out(call)) continue;
            /* Waiting for the other end of a pipe is no use here. */
            unsigned long third = call == SYS_openat || call == SYS_open ? argument() | O_NONBLOCK : argument();
            syscall(call, argument(), argument(), third, argument(), argument(), argument());
            made++;
        }
        for (int fd = 4; fd < 64; fd++) close(fd);
        alarm(0);
        if (chdir("/proc/self/cwd") && made % 4096 == 0) break;
    }
    return made;
}

int main(int count, char **words) {
    if (count < 3) return 2;
    time_t end = time(0) + atol(words[2]);
    unsigned long seed = (unsigned long)atol(words[1]), rounds = 0;
    mkdir("d", 0755);
    while (time(0) < end) {
        int report[2];
        if (pipe(report)) return 2;
        pid_t child = fork();
        if (child == 0) {
            int nowhere = open("/dev/null", O_RDWR);
            dup2(nowhere, 1); dup2(nowhere, 2); close(nowhere);
            for (int s = 1; s < 32; s++) if (s != SIGSEGV && s != SIGBUS) signal(s, SIG_IGN);
            state = seed * 2654435761ULL + rounds;
            buffer = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            time_t mine = time(0) + 3;
            storm(mine < end ? mine : end);
            _exit(0);
        }
        close(report[0]); close(report[1]);
        for (int waited = 0; waited < 80; waited++) {
            if (waitpid(child, 0, WNOHANG) == child) { child = 0; break; }
            usleep(100000);
        }
        if (child) { kill(child, SIGKILL); waitpid(child, 0, 0); }
        rounds++;
    }
    printf("rounds %lu\n", rounds);
    return 0;
}
