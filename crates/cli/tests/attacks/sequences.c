/* Makes random calls that change paths, and prints what each returned and the tree that came of it:
   sequences SEED COUNT. Every sequence begins in an empty directory. The same numbers give the same
   calls, so two outputs differ only where the calls behave differently. Never as root. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned long long state;
static unsigned next(unsigned below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(state >> 33) % below;
}

static char top[2048], longest[300], paths[4][4096];
static int directory, opened;

static const char *used[2];

static const char *pick(int slot);

/* One of the names that are tried, in buffer number `slot`. */
static const char *name(int slot) { return used[slot] = pick(slot); }

static const char *pick(int slot) {
    static const char *plain[] = {
        "a", "b", "c", "d", "e", "d/a", "d/b", "d/d", "d/d/a", "d/e", "l", "l/a", "m", "m/b", "a/", "d/", "l/",
        "n/", "./a", ".//d//a", "d/../a", "d/.", "d/..", ".", "..", "", "none/a", "a/b", "loop", "loop/a",
        "dangling", "dangling/a", "up", "up/d", "x/y/z", "d/d/up", "d/./b", "d/d/../../c", "dangling/", "e/../b"};
    char *to = paths[slot];
    unsigned which = next(56);
    if (which < sizeof plain / sizeof *plain) return plain[which];
    switch (which) {
    case 40: return longest;
    case 41: snprintf(to, 4096, "%s/a", top); return to;
    case 42: snprintf(to, 4096, "%s/d/b", top); return to;
    case 43: snprintf(to, 4096, "%s/l/../c", top); return to;
    case 44: return "/proc/self/cwd/a";
    case 45: return "/proc/thread-self/cwd/d/a";
    case 46: snprintf(to, 4096, "/dev/fd/%d/b", directory); return to;
    case 47: snprintf(to, 4096, "/proc/self/fd/%d", opened); return to;
    case 48: snprintf(to, 4096, "/proc/self/fd/%d", directory); return to;
    case 49: snprintf(to, 4096, "/proc/self/root%s/e", top); return to;
    case 50: snprintf(to, 4096, "/proc/%d/cwd/../%s/c", getpid(), strrchr(top, '/') + 1); return to;
    case 51: memset(to, 'x', 4095); to[4095] = 0; return to;
    case 52: return "/proc/self/fd/77";
    case 53: return "null";
    default: return plain[next(12)];
    }
}

static int base(void) {
    switch (next(6)) { case 0: return directory; case 1: return opened; case 2: return 99; default: return AT_FDCWD; }
}

static unsigned flags(void) {
    static const unsigned all[] = {O_CREAT, O_CREAT, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC, O_TMPFILE, O_PATH, O_SYNC, 0x40000000};
    unsigned f = next(4) | O_NONBLOCK;
    for (int i = next(4); i > 0; i--) f |= all[next(sizeof all / sizeof *all)];
    return f;
}

static unsigned mode(void) {
    static const unsigned all[] = {0644, 0755, 0600, 0, 0777, 01777, 02755, 0100644, 0444};
    return all[next(sizeof all / sizeof *all)];
}

static void show_descriptor(int fd) {
    struct stat seen;
    if (fstat(fd, &seen)) return;
    printf(" [%d %o %d %lld fl %x fd %d]", fd, seen.st_mode, (int)seen.st_nlink, S_ISREG(seen.st_mode) ? (long long)seen.st_size : 0, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
}

static void bind_one(void) {
    const char *at = name(0);
    /* Links of processes in an address are refused inside, see docs/limits.md. */
    if (!strncmp(at, "/proc", 5) || !strncmp(at, "/dev", 4)) at = "c";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, at, sizeof address.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    int result = bind(s, (void *)&address, sizeof address);
    int failed = errno;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    getsockname(s, (void *)&address, &length);
    printf("bind %d %d %d %s\n", result, result ? failed : 0, (int)length, strstr(address.sun_path, top) ? "absolute" : address.sun_path);
    close(s);
}

static void one(void) {
    const char *what;
    long result;
    unsigned call = next(22);
    errno = 0;
    used[0] = used[1] = 0;
    switch (call) {
    case 0: case 1: case 2: {
        const char *n = name(0); unsigned f = flags(), m = mode();
        what = "open"; result = syscall(SYS_openat, AT_FDCWD, n, f, m); break; }
    case 3: {
        int b = base(); const char *n = name(0); unsigned f = flags(), m = mode();
        what = "openat"; result = syscall(SYS_openat, b, n, f, m); break; }
    case 4: {
        const char *n = name(0); struct stat seen;
        if (!stat(n, &seen) && S_ISFIFO(seen.st_mode)) n = "a"; /* It would wait for a reader. */
        what = "creat"; result = syscall(SYS_creat, n, 0640); break; }
    case 5: case 6: what = "mkdir"; result = syscall(SYS_mkdir, name(0), mode() & 07777); break;
    case 7: what = "rmdir"; result = syscall(SYS_rmdir, name(0)); break;
    case 8: what = "unlink"; result = syscall(SYS_unlink, name(0)); break;
    case 9: { int b = base(); const char *n = name(0); what = "unlinkat"; result = syscall(SYS_unlinkat, b, n, next(3) == 0 ? AT_REMOVEDIR : next(8) == 0 ? 1 : 0); break; }
    case 10: case 11: { const char *f = name(0), *t = name(1); what = "rename"; result = syscall(SYS_rename, f, t); break; }
    case 12: {
        static const unsigned how[] = {0, 1, 2, 3, 4, 8};
        int b = base(), c = base(); const char *f = name(0), *t = name(1);
        what = "renameat2"; result = syscall(SYS_renameat2, b, f, c, t, how[next(6)]); break; }
    case 13: { const char *f = name(0), *t = name(1); what = "link"; result = syscall(SYS_link, f, t); break; }
    case 14: {
        static const unsigned how[] = {0, AT_SYMLINK_FOLLOW, AT_SYMLINK_FOLLOW, 0x4000};
        int b = base(); const char *f = name(0), *t = name(1);
        what = "linkat"; result = syscall(SYS_linkat, b, f, AT_FDCWD, t, how[next(4)]); break; }
    case 15: {
        static const char *texts[] = {"a", "d", "d/a", "..", "loop", "nowhere", "", "d/", "/dev/null", "."};
        const char *n = name(0);
        what = "symlink"; result = syscall(SYS_symlink, texts[next(10)], n); break; }
    case 16: what = "chmod"; result = syscall(SYS_chmod, name(0), mode() & 01777); break;
    case 17: {
        int b = base(); const char *n = name(0);
        what = "fchmodat2"; result = syscall(452, b, n, mode() & 01777, next(3) == 0 ? AT_SYMLINK_NOFOLLOW : next(4) == 0 ? AT_EMPTY_PATH : 0); break; }
    case 18: what = "truncate"; result = syscall(SYS_truncate, name(0), (long)next(100) - 3); break;
    case 19: what = "mknod"; result = syscall(SYS_mknod, name(0), (next(2) ? S_IFREG : S_IFIFO) | 0666, 0); break;
    case 20: { static const unsigned masks[] = {022, 022, 0, 077}; what = "umask"; result = umask(masks[next(4)]); break; }
    default: bind_one(); return;
    }
    int failed = errno;
    if (failed == EROFS) failed = EPERM; /* Inside, `/dev` is mounted read-only. */
    /* Inside, more of the tree's surroundings are mounts of their own. */
    for (int i = 0; i < 2; i++) /* Nothing can be removed or renamed there; who asks is told another reason. */
        if (call >= 7 && call <= 12 && used[i] && !strncmp(used[i], "/proc", 5) && result < 0) failed = 0;
    if (failed == EXDEV && (call == 10 || call == 11 || call == 12)) failed = EBUSY;
    printf("%s", what);
    for (int i = 0; i < 2 && used[i]; i++) {
        const char *shown = strncmp(used[i], "/proc/", 6) && strncmp(used[i], top, strlen(top)) ? used[i] : strrchr(used[i], '/');
        printf(" \"%.24s\"", shown);
    }
    printf(" %ld %d", result, result < 0 ? failed : 0);
    if (call <= 4 && result >= 0) {
        show_descriptor((int)result);
        if (next(2)) { if (write((int)result, "text", next(5)) < 0) printf(" write %d", errno); }
        if (next(3) == 0 && result != opened && result != directory) { dup2((int)result, opened); }
        if (result != opened && result != directory) close((int)result);
    }
    printf("\n");
}

static int by_name(const struct dirent **left, const struct dirent **right) { return strcmp((*left)->d_name, (*right)->d_name); }

static void show(const char *path, int depth) {
    struct dirent **found;
    int count = scandir(path, &found, 0, by_name);
    for (int i = 0; i < count; i++) {
        const char *entry = found[i]->d_name;
        char below[4096], text[4096];
        struct stat seen;
        if (strcmp(entry, ".") && strcmp(entry, "..")) {
            snprintf(below, sizeof below, "%s/%s", path, entry);
            if (!lstat(below, &seen)) {
                printf("%*s%s %o %d %lld", depth, "", entry, seen.st_mode, (int)seen.st_nlink, S_ISDIR(seen.st_mode) ? 0 : (long long)seen.st_size);
                ssize_t length = S_ISLNK(seen.st_mode) ? readlink(below, text, sizeof text - 1) : -1;
                if (length >= 0) { text[length] = 0; printf(" -> %s", text); }
                printf("\n");
                if (S_ISDIR(seen.st_mode)) { if (!(seen.st_mode & 0500)) chmod(below, 0700); show(below, depth + 1); }
            }
        }
        free(found[i]);
    }
    if (count >= 0) free(found);
}

static void clear(const char *path) {
    struct dirent **found;
    chmod(path, 0700);
    int count = scandir(path, &found, 0, 0);
    for (int i = 0; i < count; i++) {
        char below[4096];
        struct stat seen;
        if (strcmp(found[i]->d_name, ".") && strcmp(found[i]->d_name, "..")) {
            snprintf(below, sizeof below, "%s/%s", path, found[i]->d_name);
            if (!lstat(below, &seen) && S_ISDIR(seen.st_mode)) clear(below); else unlink(below);
        }
        free(found[i]);
    }
    if (count >= 0) free(found);
    rmdir(path);
}

int main(int count, char **words) {
    if (count < 3) return 2;
    /* Some of its calls name `/` and `/dev/null`: only who may not change them may try. */
    if (geteuid() == 0) { fputs("sequences: not as root\n", stderr); return 3; }
    long first = atol(words[1]), sequences = atol(words[2]);
    char here[1024];
    if (!getcwd(here, sizeof here)) return 2;
    memset(longest, 'n', 256);
    for (long sequence = 0; sequence < sequences; sequence++) {
        state = (unsigned long long)(first + sequence) * 2654435761ULL + 12345;
        char box[1100];
        snprintf(box, sizeof box, "%s/box", here);
        snprintf(top, sizeof top, "%s/tree", box);
        umask(022);
        if (mkdir(box, 0755) || mkdir(top, 0755) || chdir(top)) { perror("tree"); return 2; }
        mkdir("d", 0755); mkdir("d/d", 0755);
        if (symlink("d", "l") || symlink("loop", "loop") || symlink("nowhere", "dangling") || symlink("..", "d/up") || symlink("/dev/null", "null")) return 2;
        directory = open("d", O_RDONLY | O_DIRECTORY);
        opened = open("a", O_RDWR | O_CREAT, 0644);
        printf("= %ld\n", first + sequence);
        for (int i = 12; i > 0; i--) one();
        chmod(box, 0755);
        show(box, 0);
        close(directory); close(opened);
        if (chdir(here)) return 2;
        clear(box);
    }
    return 0;
}
