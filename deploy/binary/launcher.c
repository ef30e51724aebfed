/* The file that people run: it unpacks the program into a folder of its own, and becomes it.

   PyInstaller's own one-file programs stay in between as a second process: signals would reach the wrong one, a new
   program could not take over under the same number, and a SIGKILL would leave everything unpacked behind. Here the
   launcher is replaced by the program, in the same process, and a cleaner waits beside it for the folder's last user.

   Whoever uses the folder holds a shared lock on it (flock). The cleaner waits for an exclusive one, which the kernel
   grants when the last user has ended, in whatever way; systemd-tmpfiles spares a folder with such a lock, too.
   Must not know what the program does. It needs no library and no /proc. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#define PROGRAM "sovren-edge"
#define FOLDERS "sovren-edge-run-"
#define HELD "SOVREN_EDGE_HELD"
#define LOOKING_AGAIN 100

/* The last bytes of the file. */
struct tail {
    char mark[8];
    uint64_t begin;
};

static void fail(const char *format, ...) {
    va_list what;
    int error = errno;
    fputs(PROGRAM ": ", stderr);
    va_start(what, format);
    vfprintf(stderr, format, what);
    va_end(what);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    exit(1);
}

static char *joined(const char *format, const char *first, const char *second) {
    char *text;
    if (asprintf(&text, format, first, second) < 0) fail("no memory");
    return text;
}

/* Return the path by which this file was started, links and all: an upgrade may put another file there. */
static char *own_path(void) {
    const char *started = (const char *)getauxval(AT_EXECFN);
    char here[PATH_MAX];
    if (started == NULL) fail("the system does not tell where this program is");
    if (started[0] == '/') return joined("%s%s", started, "");
    if (getcwd(here, sizeof here) == NULL) fail("this folder cannot be found");
    return joined("%s/%s", here, started);
}

static int removed(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status, (void)kind, (void)place;
    remove(path);
    return 0;
}

static void remove_all(const char *folder) { nftw(folder, removed, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

/* Remove the folders whose users and cleaner were all killed at once. */
static void sweep(const char *parent) {
    DIR *all = opendir(parent);
    struct dirent *one;
    struct stat status;
    while (all != NULL && (one = readdir(all)) != NULL) {
        if (strncmp(one->d_name, FOLDERS, strlen(FOLDERS)) != 0) continue;
        int folder = openat(dirfd(all), one->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0) continue;
        if (fstat(folder, &status) == 0 && status.st_uid == geteuid() && flock(folder, LOCK_EX | LOCK_NB) == 0) {
            char *path = joined("%s/%s", parent, one->d_name);
            remove_all(path);
            free(path);
        }
        close(folder);
    }
    if (all != NULL) closedir(all);
}

/* Open a folder under a number that nothing else expects: not that of a closed standard input. */
static int open_folder(const char *path) {
    int low = open(path, O_RDONLY | O_DIRECTORY);
    int high = low < 0 ? low : fcntl(low, F_DUPFD, 3);
    if (low >= 0) close(low);
    return high;
}

/* Make a folder that only this user can use, and return its path; `lock` is a lock on it that lasts through exec. */
static char *make_folder(const char *parent, int *lock) {
    for (int times = 0; times < LOOKING_AGAIN; times++) {
        struct stat held, found;
        char *path = joined("%s/" FOLDERS "%s", parent, "XXXXXX");
        if (mkdtemp(path) == NULL) fail("it cannot unpack itself in %s (TMPDIR names another folder)", parent);
        *lock = open_folder(path);
        /* Another one's sweep may have come before the lock. */
        if (*lock >= 0 && flock(*lock, LOCK_SH) == 0 && fstat(*lock, &held) == 0 && stat(path, &found) == 0
            && held.st_ino == found.st_ino)
            return path;
        close(*lock);
        free(path);
    }
    fail("no folder in %s lasts", parent);
    return NULL;
}

/* Say in lists of processes what this one is for. */
static void rename_self(int argc, char **argv, const char *folder) {
    size_t room = (size_t)(argv[argc - 1] + strlen(argv[argc - 1]) - argv[0]);
    memset(argv[0], 0, room);
    snprintf(argv[0], room, PROGRAM "-cleaner %s", folder);
    prctl(PR_SET_NAME, "edge-cleaner");
}

/* Leave a process behind that removes the folder after its last user; nobody's child, and deaf to signals. */
static void start_cleaner(const char *folder, int lock, int argc, char **argv) {
    sigset_t every;
    pid_t child = fork();
    if (child < 0) fail("no process can be started");
    if (child > 0) {
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
        return;
    }
    sigfillset(&every);
    sigprocmask(SIG_BLOCK, &every, NULL);
    setsid();
    if (fork() != 0) _exit(0);
    int own = open_folder(folder);
    if (own < 0 || chdir("/") != 0) _exit(1);
    rename_self(argc, argv, folder);
    /* It holds neither the lock that it waits for nor anybody's pipes. */
    close(lock);
    close_range(0, (unsigned)own - 1, 0);
    close_range((unsigned)own + 1, UINT_MAX, 0);
    while (flock(own, LOCK_EX) != 0 && errno == EINTR) continue;
    remove_all(folder);
    _exit(0);
}

static gzFile open_packed(const char *path) {
    struct tail tail;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail("%s cannot be read", path);
    off_t at = lseek(file, -(off_t)sizeof tail, SEEK_END);
    errno = 0;
    if (at < 0 || read(file, &tail, sizeof tail) != sizeof tail || memcmp(tail.mark, "edgepack", sizeof tail.mark) != 0
        || lseek(file, (off_t)tail.begin, SEEK_SET) < 0)
        fail("%s is not whole", path);
    gzFile packed = gzdopen(file, "rb");
    if (packed == NULL) fail("no memory");
    gzbuffer(packed, 1 << 17);
    return packed;
}

static void unpack_file(gzFile packed, int folder, const char *name, unsigned mode, uint64_t size) {
    static char piece[1 << 16];
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0700);
    if (file < 0) fail("%s cannot be unpacked", name);
    while (size > 0) {
        int got = gzread(packed, piece, size < sizeof piece ? (unsigned)size : sizeof piece);
        if (got <= 0) {
            errno = 0;
            fail("it is not whole: %s cannot be unpacked", name);
        }
        for (int put = 0; put < got;) {
            ssize_t now = write(file, piece + put, (size_t)(got - put));
            if (now < 0 && errno != EINTR) fail("%s cannot be unpacked", name);
            if (now > 0) put += (int)now;
        }
        size -= (uint64_t)got;
    }
    close(file);
}

/* Unpack what pack.py has packed: a line of mode, size and name before the bytes of each folder, file and link. */
static void unpack(const char *path, int folder) {
    char line[PATH_MAX + 64], target[PATH_MAX];
    gzFile packed = open_packed(path);
    while (gzgets(packed, line, sizeof line) != NULL) {
        unsigned mode;
        unsigned long long size;
        int name = 0;
        line[strcspn(line, "\n")] = 0;
        errno = 0;
        if (sscanf(line, "%o %llu %n", &mode, &size, &name) != 2 || name == 0) fail("it is not whole");
        if (S_ISDIR(mode)) {
            if (mkdirat(folder, line + name, 0700) != 0) fail("%s cannot be unpacked", line + name);
        } else if (S_ISLNK(mode)) {
            if (size >= sizeof target || gzread(packed, target, (unsigned)size) != (int)size) fail("it is not whole");
            target[size] = 0;
            if (symlinkat(target, folder, line + name) != 0) fail("%s cannot be unpacked", line + name);
        } else {
            unpack_file(packed, folder, line + name, mode, size);
        }
    }
    errno = 0;
    if (!gzeof(packed) || gzclose_r(packed) != Z_OK) fail("it is not whole");
}

int main(int argc, char **argv) {
    char *own = own_path(), number[16];
    const char *parent = getenv("TMPDIR");
    int lock;
    if (argc < 1) fail("it was started without its name");
    if (parent == NULL || parent[0] != '/') parent = "/tmp";
    sweep(parent);
    char *folder = make_folder(parent, &lock);
    start_cleaner(folder, lock, argc, argv);
    unpack(own, lock);
    if (symlinkat(own, lock, "started") != 0) fail("it cannot be unpacked");
    snprintf(number, sizeof number, "%d", lock);
    setenv(HELD, number, 1);
    argv[0] = joined("%s/%s", folder, PROGRAM);
    execv(argv[0], argv);
    fail("programs in %s cannot be run (TMPDIR names another folder)", parent);
}
