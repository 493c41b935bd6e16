// Proves: an ordinary Linux container runs beside the guests, with its own process, user, files, signals and
// exit code. Static, so that an image of this one file is enough. Driven by its arguments; see `usage`.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char usage[] =
    "usage: linux-hello [COMMAND]; without a command: print one line and exit\n"
    "  args [ANY...]      print the arguments, one a line, as argv[N]=VALUE\n"
    "  env                print the environment, one NAME=VALUE a line\n"
    "  id                 print pid, uid, gid and working directory\n"
    "  status             print /proc/self/status: capabilities, seccomp, no-new-privs\n"
    "  write FILE [TEXT]  make or replace FILE with TEXT (default: hello) and a newline\n"
    "  sleep SECONDS      print one line, then sleep; SIGTERM ends it, also as process 1\n"
    "  ignore-term        print one line, then ignore SIGTERM for ever\n"
    "  exit N             exit with code N\n";

static int failed(const char *command, const char *object) {
    int code = errno;
    fprintf(stderr, "linux-hello: %s %s: %s (errno %d)\n", command, object, strerror(code), code);
    return 1;
}

static void wait_for_ever(void) {
    for (;;) pause();
}

static int sleep_for(const char *seconds) {
    double wanted = strtod(seconds, NULL);
    struct timespec time = {.tv_sec = (time_t)wanted};
    time.tv_nsec = (long)((wanted - (double)time.tv_sec) * 1e9);
    return nanosleep(&time, NULL) == 0 ? 0 : failed("sleep", seconds);
}

static int print_id(void) {
    char path[4096];
    if (!getcwd(path, sizeof path)) return failed("id", "working directory");
    printf("pid=%d uid=%d gid=%d cwd=%s\n", getpid(), getuid(), getgid(), path);
    return 0;
}

static int print_status(void) {
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) return failed("status", "/proc/self/status");
    for (int byte; (byte = fgetc(file)) != EOF;) putchar(byte);
    fclose(file);
    return 0;
}

static int write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file) return failed("write", path);
    int result = fprintf(file, "%s\n", text) < 0 ? failed("write", path) : 0;
    if (fclose(file) != 0 && result == 0) result = failed("write", path);
    return result;
}

// 143 is what a shell reports for SIGTERM. Only async-signal-safe calls here.
static void end_on_term(int signal) {
    _exit(128 + signal);
}

int main(int argc, char **argv) {
    // Logs are read while the program still runs, through a pipe, where stdio would keep lines back.
    setvbuf(stdout, NULL, _IOLBF, 0);
    // Process 1 of a PID namespace ignores a signal it has no handler for.
    if (getpid() == 1) signal(SIGTERM, end_on_term);

    if (argc < 2) {
        puts("hello from linux");
        return 0;
    }
    const char *command = argv[1];
    if (strcmp(command, "args") == 0) {
        for (int i = 0; i < argc; i++) printf("argv[%d]=%s\n", i, argv[i]);
        return 0;
    }
    if (argc == 2) {
        if (strcmp(command, "id") == 0) return print_id();
        if (strcmp(command, "status") == 0) return print_status();
        if (strcmp(command, "env") == 0) {
            for (char **entry = environ; *entry; entry++) puts(*entry);
            return 0;
        }
        if (strcmp(command, "ignore-term") == 0) {
            signal(SIGTERM, SIG_IGN);
            puts("ignoring SIGTERM");
            wait_for_ever();
        }
    }
    if (argc == 3) {
        if (strcmp(command, "exit") == 0) return atoi(argv[2]);
        if (strcmp(command, "sleep") == 0) {
            puts("hello from linux");
            return sleep_for(argv[2]);
        }
    }
    if ((argc == 3 || argc == 4) && strcmp(command, "write") == 0) {
        return write_file(argv[2], argc == 4 ? argv[3] : "hello");
    }
    fprintf(stderr, "linux-hello: %s: unknown command or wrong number of arguments\n%s", command, usage);
    return 2;
}
