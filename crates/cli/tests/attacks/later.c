/* Executes `touch WORD`, or makes WORD itself; another thread changes what belongs to the call once
   `now` exists, which is while a person is asked about it. */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static char word[] = "first1";
static char variable[] = "PATH=/first1";
static const char *what;

static void *change(void *unused)
{
    (void)unused;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    while (access("now", F_OK) != 0)
        usleep(10000);
    if (strcmp(what, "argument") == 0 || strcmp(what, "path") == 0)
        memcpy(word, "other1", 6);
    if (strcmp(what, "variable") == 0)
        memcpy(variable + 6, "other1", 6);
    if (strcmp(what, "directory") == 0 && chdir("below") != 0)
        _exit(3);
    close(openat(here, "done", O_CREAT | O_WRONLY, 0600));
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    char *arguments[] = { "touch", word, 0 }, *variables[] = { variable, 0 };
    pthread_t thread;
    what = argc > 1 ? argv[1] : "nothing";
    pthread_create(&thread, 0, change, 0);
    if (argc > 2)
        return open(word, O_CREAT | O_WRONLY, 0600) < 0;
    execve("/usr/bin/touch", arguments, variables);
    return 1;
}
