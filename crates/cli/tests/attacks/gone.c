/* Executes ./link under a timer that ends it before anybody can look; with an argument, the link
   leads to the program of ./other right after that, and back again. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void exchange(void)
{
    syscall(SYS_renameat2, AT_FDCWD, "link", AT_FDCWD, "other", 2);
}

int main(int argc, char **argv)
{
    (void)argv;
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct itimerval soon = { { 0, 0 }, { 0, 100 + 5 * i } };
            setitimer(ITIMER_REAL, &soon, 0);
            execl("./link", "tool", (char *)0);
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
        if (argc > 1) {
            exchange();
            usleep(5000);
            exchange();
        }
    }
    return 0;
}
