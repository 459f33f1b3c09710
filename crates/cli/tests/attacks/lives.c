// Ends its process in one of the ways in which a process can end.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *how, *number = "0";

static void execute(char *first, char *second) {
    char *words[] = {"./lives", first, second, NULL};
    execv(words[0], words);
    _exit(99);
}

static pid_t start(char *first, char *second) {
    pid_t child = vfork();
    if (child == 0)
        execute(first, second);
    return child;
}

// Reads a million bytes and writes half of them.
static void move_bytes(void) {
    static char bytes[1000000];
    int from = open("/dev/zero", O_RDONLY), to = open("/dev/null", O_WRONLY);
    if (read(from, bytes, sizeof bytes) != sizeof bytes)
        _exit(98);
    if (write(to, bytes, sizeof bytes / 2) != sizeof bytes / 2)
        _exit(97);
}

static void *other(void *nothing) {
    (void)nothing;
    if (!strcmp(how, "threadexec"))
        execute("code", "9");
    if (!strcmp(how, "leader"))
        usleep(50000);
    _exit(atoi(number));
}

int main(int count, char **words) {
    if (count < 2)
        return 96;
    how = words[1];
    if (count > 2)
        number = words[2];
    pthread_t thread;
    if (!strcmp(how, "thread") || !strcmp(how, "threadexec") || !strcmp(how, "leader")) {
        pthread_create(&thread, NULL, other, NULL);
        if (!strcmp(how, "leader"))
            syscall(SYS_exit, 1);
        for (;;)
            pause();
    }
    if (!strcmp(how, "signal"))
        kill(getpid(), atoi(number));
    if (!strcmp(how, "parent")) {
        start("code", number);
        wait(NULL);
        return 0;
    }
    if (!strcmp(how, "zombie")) {
        start("code", number);
        usleep(300000);
        return 0;
    }
    if (!strcmp(how, "daemon")) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) {
                usleep(50000);
                execute("later", number);
            }
        }
        return 0;
    }
    if (!strcmp(how, "later"))
        usleep(200000);
    if (!strcmp(how, "hidden")) {
        prctl(PR_SET_DUMPABLE, 0);
        move_bytes();
    }
    if (!strcmp(how, "uses") || !strcmp(how, "killed")) {
        memset(malloc(64 << 20), 1, 64 << 20);
        move_bytes();
        if (!strcmp(how, "killed")) {
            sleep(2);
            kill(getpid(), SIGKILL);
        }
    }
    if (!strcmp(how, "storm")) {
        char text[16];
        for (int i = 0; i < atoi(number); i++) {
            sprintf(text, "%d", i % 16 == 15 ? 9 : i % 200);
            start(i % 16 == 15 ? "signal" : "code", text);
            if (wait(NULL) < 0)
                return 95;
        }
        return 0;
    }
    return atoi(number);
}
