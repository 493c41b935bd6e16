// Proves: what a container sees of its world (arguments, environment, files, standard streams, time, exit
// code), from a preview 1 module made by a C toolchain. One small tool, driven by its arguments; see `usage`.
//
// Several commands run one after the other where a lone `+` stands between them:
//     echo.wasm stderr started + sleep 2 + exit 3
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const char usage[] =
    "usage: echo COMMAND [ARGUMENT...] [+ COMMAND ...]; without a command: args + env + cwd\n"
    "  args [ANY...]    print the arguments, one a line, as argv[N]=VALUE\n"
    "  env              print the environment, one NAME=VALUE a line\n"
    "  cwd              print the working directory\n"
    "  print TEXT       write TEXT and a newline to stdout\n"
    "  stderr TEXT      write TEXT and a newline to stderr\n"
    "  stdin            copy stdin to stdout until end of file\n"
    "  tty              tell which of the standard streams are a terminal\n"
    "  big N            write N bytes to stdout, in lines of 64\n"
    "  cat FILE         copy FILE to stdout\n"
    "  write FILE TEXT  make or replace FILE with TEXT and a newline\n"
    "  fill FILE MIB    make or replace FILE with that many MiB of zeros\n"
    "  ls DIR           list the names in DIR, in the order the host gives\n"
    "  sleep SECONDS    sleep; fractions are allowed\n"
    "  every SECONDS TEXT  write TEXT and a newline to stdout again and again, for ever\n"
    "  hold MIB         use that many MiB of memory and keep them, then write MIB and a newline to stdout\n"
    "  exit N           exit with code N\n"
    "  spin             use the CPU for ever without calling the host\n"
    "  trap             execute `unreachable`\n";

// Reports a failed call on `object` the way tests look for it: `echo: COMMAND OBJECT: TEXT (errno N)`.
// The numbers are WASI's, not Linux's.
static int failed(const char *command, const char *object) {
    int code = errno;
    fprintf(stderr, "echo: %s %s: %s (errno %d)\n", command, object, strerror(code), code);
    return 1;
}

// Writes all of `bytes`, however little the host takes at a time.
static int write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0) return -1;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

static int fill(const char *path, int mebibytes) {
    static const char zeros[1 << 20];
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) return failed("fill", path);
    for (int i = 0; i < mebibytes; i++)
        if (write_all(file, zeros, sizeof zeros) < 0) return failed("fill", path);
    return close(file) < 0 ? failed("fill", path) : 0;
}

static int copy_to_stdout(const char *command, const char *object, int from) {
    char buffer[16384];
    for (;;) {
        ssize_t got = read(from, buffer, sizeof buffer);
        if (got == 0) return 0;
        if (got < 0) return failed(command, object);
        if (write_all(STDOUT_FILENO, buffer, (size_t)got) < 0) return failed(command, "stdout");
    }
}

static int line_to(const char *command, int fd, const char *text) {
    if (write_all(fd, text, strlen(text)) < 0 || write_all(fd, "\n", 1) < 0) return failed(command, "stream");
    return 0;
}

static int print_args(int argc, char **argv) {
    for (int i = 0; i < argc; i++) printf("argv[%d]=%s\n", i, argv[i]);
    return fflush(stdout) == 0 ? 0 : failed("args", "stdout");
}

static int print_env(void) {
    for (char **entry = environ; *entry; entry++) printf("%s\n", *entry);
    return fflush(stdout) == 0 ? 0 : failed("env", "stdout");
}

static int print_cwd(void) {
    char path[4096];
    if (!getcwd(path, sizeof path)) return failed("cwd", ".");
    return line_to("cwd", STDOUT_FILENO, path);
}

static int print_tty(void) {
    printf("stdin %d stdout %d stderr %d\n", isatty(STDIN_FILENO), isatty(STDOUT_FILENO), isatty(STDERR_FILENO));
    return fflush(stdout) == 0 ? 0 : failed("tty", "stdout");
}

static int print_big(const char *size) {
    char line[64];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (unsigned long long left = strtoull(size, NULL, 10); left > 0;) {
        size_t part = left < sizeof line ? (size_t)left : sizeof line;
        if (write_all(STDOUT_FILENO, line, part) < 0) return failed("big", "stdout");
        left -= part;
    }
    return 0;
}

static int cat(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return failed("cat", path);
    int result = copy_to_stdout("cat", path, fd);
    close(fd);
    return result;
}

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return failed("write", path);
    int result = line_to("write", fd, text);
    if (close(fd) < 0) return failed("write", path);
    return result;
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return failed("ls", path);
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) puts(entry->d_name);
    }
    closedir(directory);
    return fflush(stdout) == 0 ? 0 : failed("ls", "stdout");
}

static int sleep_for(const char *seconds) {
    double wanted = strtod(seconds, NULL);
    struct timespec time = {.tv_sec = (time_t)wanted};
    time.tv_nsec = (long)((wanted - (double)time.tv_sec) * 1e9);
    return nanosleep(&time, NULL) == 0 ? 0 : failed("sleep", seconds);
}

// Takes memory, uses every page of it and keeps it until the program ends.
static int hold(const char *mebibytes) {
    size_t size = (size_t)strtoul(mebibytes, NULL, 10) << 20;
    volatile char *memory = malloc(size);
    if (!memory) return failed("hold", mebibytes);
    // 4 KiB: the smallest page of any machine this runs on.
    for (size_t at = 0; at < size; at += 4096) memory[at] = 1;
    return line_to("hold", STDOUT_FILENO, mebibytes);
}

static int repeat(const char *seconds, const char *text) {
    for (;;) {
        int result = line_to("every", STDOUT_FILENO, text);
        if (result == 0) result = sleep_for(seconds);
        if (result != 0) return result;
    }
}

static int misused(const char *command) {
    fprintf(stderr, "echo: %s: unknown command or wrong number of arguments\n%s", command, usage);
    return 2;
}

// Runs one command: `argv[0]` is its name, `argc` counts the name. The result is an exit code.
static int run(int argc, char **argv) {
    const char *command = argv[0];
    if (argc == 1) {
        if (strcmp(command, "env") == 0) return print_env();
        if (strcmp(command, "cwd") == 0) return print_cwd();
        if (strcmp(command, "tty") == 0) return print_tty();
        if (strcmp(command, "stdin") == 0) return copy_to_stdout(command, "stdin", STDIN_FILENO);
        if (strcmp(command, "trap") == 0) __builtin_trap();
        if (strcmp(command, "spin") == 0) {
            for (volatile unsigned turns = 0;; turns++) {
            }
        }
    } else if (argc == 2) {
        if (strcmp(command, "print") == 0) return line_to(command, STDOUT_FILENO, argv[1]);
        if (strcmp(command, "stderr") == 0) return line_to(command, STDERR_FILENO, argv[1]);
        if (strcmp(command, "big") == 0) return print_big(argv[1]);
        if (strcmp(command, "cat") == 0) return cat(argv[1]);
        if (strcmp(command, "ls") == 0) return list(argv[1]);
        if (strcmp(command, "sleep") == 0) return sleep_for(argv[1]);
        if (strcmp(command, "hold") == 0) return hold(argv[1]);
        if (strcmp(command, "exit") == 0) exit(atoi(argv[1]));
    } else if (argc == 3 && strcmp(command, "fill") == 0) {
        return fill(argv[1], atoi(argv[2]));
    } else if (argc == 3 && strcmp(command, "write") == 0) {
        return write_file(argv[1], argv[2]);
    } else if (argc == 3 && strcmp(command, "every") == 0) {
        return repeat(argv[1], argv[2]);
    }
    return misused(command);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        int result = print_args(argc, argv);
        if (result == 0) result = print_env();
        return result == 0 ? print_cwd() : result;
    }
    // `args` shows the whole command line, so it takes the rest of it, a `+` included.
    for (int from = 1; from < argc;) {
        if (strcmp(argv[from], "args") == 0) return print_args(argc, argv);
        int end = from;
        while (end < argc && strcmp(argv[end], "+") != 0) end++;
        if (end == from) return misused("+");
        int result = run(end - from, argv + from);
        if (result != 0) return result;
        from = end + 1;
    }
    return 0;
}
