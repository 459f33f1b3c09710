/* Executes `sleeper A` while another thread swaps A between `plain` and `asked1`, words of one
   length: the look of the supervisor and that of the kernel may meet different ones. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char word[8] = "plain1";

static void *swap(void *unused)
{
    (void)unused;
    for (;;) {
        memcpy(word, "asked1", 6);
        memcpy(word, "plain1", 6);
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
            char *arguments[] = { argv[1], word, 0 };
            pthread_create(&thread, 0, swap, 0);
            usleep(1000);
            execv(argv[1], arguments);
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
    }
    return 0;
}
