// What the kernel keeps of a process: signals, limits, descriptors, scheduling, namespaces, network.
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

// The kernel's own structure: the C library hides signals 32 and 33.
struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

void report_signals(void) {
    unsigned long mask = 0, pending = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
    syscall(SYS_rt_sigpending, &pending, sizeof pending);
    list_begin();
    for (int number = 1; number <= 64; number++)
        if (mask >> (number - 1) & 1) list_item("%d", number);
    list_end("signals.blocked");
    field("signals.pending", "%016lx", pending);
    list_begin();
    for (int number = 1; number <= 64; number++) {
        struct kernel_action action = {0};
        if (syscall(SYS_rt_sigaction, number, NULL, &action, sizeof action.mask) != 0) continue;
        if (action.handler != SIG_DFL) list_item("%d", number);
    }
    list_end("signals.ignored");
}

void report_limits(void) {
    static const char *const names[] = {"cpu",    "fsize", "data",  "stack",      "core",     "rss",  "nproc", "nofile",
                                        "memlock", "as",   "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    for (int kind = 0; kind < 16; kind++) {
        struct rlimit limit;
        char name[64];
        snprintf(name, sizeof name, "limits.%s", names[kind]);
        if (getrlimit(kind, &limit) != 0) field(name, "%s", error_name(errno));
        else field(name, "%lld %lld", (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
}

static const char *type_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG: return "file";
        case S_IFDIR: return "directory";
        case S_IFCHR: return "character device";
        case S_IFBLK: return "block device";
        case S_IFIFO: return "pipe";
        case S_IFSOCK: return "socket";
        default: return "anonymous";
    }
}

void report_descriptors(void) {
    list_begin();
    for (int number = 0; number < 65536; number++) {
        int descriptor_flags = fcntl(number, F_GETFD);
        if (descriptor_flags < 0) {
            // Descriptors of a process that opened nothing yet are below the limit or were inherited from above it.
            if (number > 4096) break;
            continue;
        }
        struct stat status;
        char path[64], target[4096];
        fstat(number, &status);
        snprintf(path, sizeof path, "/proc/self/fd/%d", number);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        int flags = fcntl(number, F_GETFL);
        static const char *const access[] = {"read", "write", "read-write", "path"};
        if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3)) {
            list_item("%d: the null device%s", number, descriptor_flags & FD_CLOEXEC ? " close-on-exec" : "");
            continue;
        }
        // How a stream reached the container is its shim's own affair, a pipe or a terminal being what it is.
        int named = number > 2 && strncmp(target, "pipe:", 5) && strncmp(target, "socket:", 7);
        list_item("%d: %s %s%s%s%s%s%s", number, type_of(status.st_mode), access[flags & O_ACCMODE],
                  flags & O_APPEND ? " append" : "", flags & O_NONBLOCK ? " non-blocking" : "",
                  descriptor_flags & FD_CLOEXEC ? " close-on-exec" : "", named ? " " : "", named ? target : "");
    }
    list_end("descriptors");
}

void report_scheduling(void) {
    struct sched_param parameter = {0};
    int policy = sched_getscheduler(0);
    sched_getparam(0, &parameter);
    field("scheduling.policy", "%d", policy);
    field("scheduling.priority", "%d", parameter.sched_priority);
    errno = 0;
    field("scheduling.nice", "%d", getpriority(PRIO_PROCESS, 0));
    field("scheduling.io-priority", "%ld", syscall(SYS_ioprio_get, 1, 0));
    cpu_set_t processors;
    CPU_ZERO(&processors);
    sched_getaffinity(0, sizeof processors, &processors);
    list_begin();
    for (int number = 0; number < CPU_SETSIZE; number++)
        if (CPU_ISSET(number, &processors)) list_item("%d", number);
    list_end("scheduling.processors");
}

void report_namespaces(void) {
    static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[64], path[64], target[256];
        snprintf(name, sizeof name, "namespaces.%s", kinds[i]);
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        field(name, "%s", length < 0 ? error_name(errno) : target);
    }
    struct utsname system;
    uname(&system);
    field("namespaces.hostname", "%s", system.nodename);
    field("namespaces.domainname", "%s", system.domainname);
    char groups[8192] = "";
    int file = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t length = read(file, groups, sizeof groups - 1);
        groups[length < 0 ? 0 : length] = 0;
        close(file);
    }
    // number:controllers:path, where the number says nothing and the unified hierarchy has no controllers.
    for (char *line = strtok(groups, "\n"); line; line = strtok(NULL, "\n")) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL, name[256];
        if (!group) continue;
        *group = 0;
        snprintf(name, sizeof name, "cgroups %s", controllers[1] ? controllers + 1 : "unified");
        field(name, "%s", group + 1);
    }
}

void report_network(void) {
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct if_nameindex *all = if_nameindex();
    if (!all || socket_ < 0) {
        field("network.interfaces", "%s", error_name(errno));
        return;
    }
    list_begin();
    for (struct if_nameindex *one = all; one->if_index; one++) {
        struct ifreq request = {0};
        strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
        ioctl(socket_, SIOCGIFFLAGS, &request);
        list_item("%s%s", one->if_name, request.ifr_flags & IFF_UP ? " up" : "");
    }
    list_end("network.interfaces");
    if_freenameindex(all);
    close(socket_);
}
