/* Opens files of processes twice, as the kernel does it and with O_CREAT, which the supervisor
 * does, and says where the second way gives more; or loses a writer in a pipe, again and again. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char page[1 << 16];

static int look(const char *path, int flags, uint64_t *frame) {
    int file = open(path, flags, 0600);
    if (file < 0) return -errno;
    char byte[4096];
    off_t at = strstr(path, "pagemap") ? (off_t)((uintptr_t)page / 4096 * 8) : 0;
    ssize_t count = pread(file, byte, strstr(path, "pagemap") ? 8 : sizeof byte, at);
    int error = errno;
    if (count == 8) memcpy(frame, byte, 8);
    close(file);
    return count < 0 ? -error : 0;
}

static void more(void) {
    const char *paths[] = {
        "/proc/self/pagemap", "/proc/self/maps",  "/proc/self/environ", "/proc/self/stat",
        "/proc/1/pagemap",    "/proc/1/maps",     "/proc/1/environ",    "/proc/1/auxv",
        "/proc/1/smaps",      "/proc/1/numa_maps", "/proc/1/io",        "/proc/1/syscall",
        "/proc/kallsyms",     "/proc/iomem",      "/proc/timer_list",   "/proc/vmallocinfo",
    };
    page[0] = 1;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        uint64_t plain = 0, made = 0;
        int first = look(paths[i], O_RDONLY, &plain);
        int second = look(paths[i], O_RDONLY | O_CREAT, &made);
        int gives_more = second == 0 && (first != 0 || plain != made);
        printf("%s %s\n", gives_more ? "more" : "same", paths[i]);
    }
}

static void lose(int times, mode_t mode) {
    umask(0);
    unlink("pipe");
    if (mkfifo("pipe", mode)) _exit(9);
    for (int i = 0; i < times; i++) {
        pid_t child = fork();
        if (child == 0) {
            open("pipe", O_WRONLY);
            _exit(0);
        }
        usleep(5000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
}

static volatile sig_atomic_t handled;
static void handle(int signal) { handled = signal; }

/* A handled signal breaks a wait off, or the wait goes on after it, as the handler was set up. */
static void interrupted(void) {
    for (int restart = 0; restart < 2; restart++) {
        struct sigaction action = {.sa_handler = handle, .sa_flags = restart ? SA_RESTART : 0};
        sigaction(SIGUSR1, &action, NULL);
        unlink("pipe");
        if (mkfifo("pipe", 0600)) _exit(9);
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            usleep(200000);
            kill(parent, SIGUSR1);
            usleep(300000);
            open("pipe", O_RDONLY | O_NONBLOCK);
            pause();
        }
        int file = open("pipe", O_WRONLY);
        printf("%s %s\n", restart ? "restart" : "break", file < 0 ? strerror(errno) : "open");
        if (file >= 0) close(file);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
}

/* Without a place for a descriptor no file is touched. */
static void full(void) {
    struct rlimit limit = {100, 100};
    setrlimit(RLIMIT_NOFILE, &limit);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    int first = open("kept", O_WRONLY | O_TRUNC) < 0 ? errno : 0;
    int second = open("made", O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 ? errno : 0;
    printf("%d %d\n", first == EMFILE, second == EMFILE);
}

/* Connections with something left to send and the wish to wait for that are killed while they get
 * an address; a process beside makes changes and gives addresses meanwhile. */
static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void linger(int times) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 99)) _exit(9);
    getsockname(listener, (void *)&at, &length);
    double worst = 0;
    for (int i = 0; i < times; i++) {
        pid_t child = fork();
        if (child == 0) {
            int own = socket(AF_INET, SOCK_STREAM, 0);
            struct linger wait = {1, 20};
            setsockopt(own, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
            if (connect(own, (void *)&at, sizeof at)) _exit(9);
            fcntl(own, F_SETFL, O_NONBLOCK);
            while (write(own, page, sizeof page) > 0) {
            }
            struct sockaddr_in any = {.sin_family = AF_INET};
            for (;;) bind(own, (void *)&any, sizeof any);
        }
        accept(listener, NULL, NULL);
        usleep(3000 + (useconds_t)i * 20);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        double start = seconds();
        mkdir("made", 0700);
        rmdir("made");
        int local = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr unnamed = {.sa_family = AF_UNIX};
        if (bind(local, &unnamed, 2)) _exit(8);
        close(local);
        double took = seconds() - start;
        if (took > worst) worst = took;
        if (worst > 3) break;
    }
    printf("%s\n", worst > 3 ? "stalled" : "went on");
}

/* Another thread swaps the path of an open between a file of a process and a target. */
static char path[64];
static const char *target;
static volatile int over;

static void *swap_path(void *unused) {
    while (!over) {
        strcpy(path, "/proc/self/mem");
        for (volatile int i = 0; i < 300; i++) {
        }
        strcpy(path, target);
        for (volatile int i = 0; i < 300; i++) {
        }
    }
    return unused;
}

static void swap(const char *at) {
    target = at;
    pthread_t thread;
    if (pthread_create(&thread, NULL, swap_path, NULL)) _exit(9);
    struct stat wanted, found;
    double end = seconds() + 4;
    while (!over && seconds() < end) {
        int file = open(path, O_WRONLY);
        if (file < 0) continue;
        if (!stat(target, &wanted) && !fstat(file, &found) && wanted.st_ino == found.st_ino) {
            if (write(file, "swapped", 7) != 7) _exit(8);
            over = 1;
        }
        close(file);
    }
    over = 1;
    pthread_join(thread, NULL);
}

/* The memory of a process is its own. */
static void memory(void) {
    char *text = strdup("old");
    for (int flags = 0; flags < 2; flags++) {
        int file = open("/proc/self/mem", O_RDWR | (flags ? O_CREAT : 0), 0600);
        if (pwrite(file, flags ? "two" : "one", 3, (off_t)(uintptr_t)text) != 3) _exit(8);
        close(file);
        puts(text);
        int first = open("/proc/1/mem", O_RDWR | (flags ? O_CREAT : 0), 0600);
        puts(first < 0 ? "refused" : "open");
    }
}

/* One session swaps a file with a pipe while another one opens it: nobody waits in the pipe. */
static void flip(void) {
    close(open("first", O_CREAT | O_WRONLY, 0600));
    mkfifo("second", 0600);
    for (double end = seconds() + 7; seconds() < end;)
        renameat2(AT_FDCWD, "first", AT_FDCWD, "second", RENAME_EXCHANGE);
}

static void visit(void) {
    double worst = 0;
    for (double end = seconds() + 4; seconds() < end; usleep(100)) {
        pid_t child = fork();
        if (child == 0) {
            alarm(1);
            open("first", O_WRONLY);
            _exit(0);
        }
        double start = seconds();
        close(open("beside", O_CREAT | O_WRONLY, 0600));
        if (seconds() - start > worst) worst = seconds() - start;
    }
    puts(worst > 2 ? "stalled" : "went on");
}

int main(int count, char **words) {
    if (count < 2) return 9;
    if (!strcmp(words[1], "more")) more();
    else if (!strcmp(words[1], "interrupted")) interrupted();
    else if (!strcmp(words[1], "full")) full();
    else if (!strcmp(words[1], "linger")) linger(100);
    else if (!strcmp(words[1], "swap")) swap(words[2]);
    else if (!strcmp(words[1], "memory")) memory();
    else if (!strcmp(words[1], "flip")) flip();
    else if (!strcmp(words[1], "visit")) visit();
    else {
        lose(100, 0222);
        puts("lost");
        fflush(stdout);
        sleep(4);
    }
    return 0;
}
