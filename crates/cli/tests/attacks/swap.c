/* Executes `program WORD`, or with a third argument the program WORD itself, while another thread
   swaps WORD between `plain1` and `asked1`: the look of the supervisor and that of the kernel may
   meet different ones. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Volatile: both words are written, whatever the compiler thinks of the first. */
static volatile long word;

/* Each word stays for about as long as a look and its answer take. */
static void hold(void)
{
    for (volatile int i = 0; i < 20000; i++)
        ;
}

static void *swap(void *unused)
{
    long plain = 0, asked = 0;
    (void)unused;
    memcpy(&plain, "plain1", 6);
    memcpy(&asked, "asked1", 6);
    for (;;) {
        word = plain;
        hold();
        word = asked;
        hold();
    }
    return 0;
}

int main(int argc, char **argv)
{
    int tries = argc > 2 ? atoi(argv[2]) : 200;
    for (int i = 0; i < tries; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            char *swapped = (char *)&word;
            char *arguments[] = { argv[1], argc > 3 ? 0 : swapped, 0 };
            pthread_create(&thread, 0, swap, 0);
            usleep(1000);
            execv(argc > 3 ? swapped : argv[1], arguments);
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
    }
    return 0;
}
