// What a process is told at its start, and whose it is.
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void text_of(const char *name, const char *path) {
    char text[4096];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        field(name, "%s", error_name(errno));
        return;
    }
    ssize_t length = read(file, text, sizeof text - 1);
    if (length < 0) {
        field(name, "%s", error_name(errno));
    } else {
        while (length > 0 && (text[length - 1] == '\n' || !text[length - 1])) length--;
        text[length] = 0;
        field(name, "%s", text);
    }
    close(file);
}

static void link_of(const char *name, const char *path) {
    char target[4096];
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) {
        field(name, "%s", error_name(errno));
        return;
    }
    target[length] = 0;
    field(name, "%s", target);
}

static void number(const char *name, long value) {
    if (value < 0) field(name, "%s", error_name(errno));
    else field(name, "%ld", value);
}

void report_process(char **argv, char **environment) {
    list_begin();
    for (char **argument = argv; *argument; argument++) list_item("%s", *argument);
    list_end("process.args");
    list_begin();
    for (char **entry = environment; *entry; entry++) list_item("%s", *entry);
    list_end("process.env");

    char path[4096];
    field("process.cwd", "%s", getcwd(path, sizeof path) ? path : error_name(errno));
    link_of("process.exe", "/proc/self/exe");
    link_of("process.root", "/proc/self/root");
    text_of("process.name", "/proc/self/comm");
    field("process.exec-name", "%s", (const char *)getauxval(AT_EXECFN));
    field("process.secure-mode", "%ld", getauxval(AT_SECURE));
    mode_t mask = umask(0);
    umask(mask);
    field("process.umask", "%04o", mask);
    field("process.is-first", "%s", getpid() == 1 ? "yes" : "no");
    field("process.leads-session", "%s", getsid(0) == getpid() ? "yes" : "no");
    field("process.leads-group", "%s", getpgrp() == getpid() ? "yes" : "no");
    // Of another PID namespace, as seen from this one.
    field("process.parent-visible", "%s", getppid() ? "yes" : "no");
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    field("process.has-terminal", "%s", terminal < 0 ? error_name(errno) : "yes");
    if (terminal >= 0) {
        struct winsize size = {0};
        ioctl(terminal, TIOCGWINSZ, &size);
        field("process.terminal-size", "%dx%d", size.ws_col, size.ws_row);
        field("process.terminal-foreground", "%s", tcgetpgrp(terminal) == getpgrp() ? "yes" : "no");
        close(terminal);
    }
    if (isatty(0)) link_of("process.terminal-name", "/proc/self/fd/0");

    number("process.dumpable", prctl(PR_GET_DUMPABLE));
    number("process.keep-capabilities", prctl(PR_GET_KEEPCAPS));
    int value = 0;
    prctl(PR_GET_PDEATHSIG, &value);
    field("process.parent-death-signal", "%d", value);
    value = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    field("process.subreaper", "%d", value);
    number("process.timer-slack", prctl(PR_GET_TIMERSLACK));
    number("process.no-huge-pages", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    field("process.personality", "%08x", (unsigned)personality(0xffffffff));
    text_of("process.oom-score-adj", "/proc/self/oom_score_adj");
    text_of("process.coredump-filter", "/proc/self/coredump_filter");
    text_of("process.login-uid", "/proc/self/loginuid");
    text_of("process.security-label", "/proc/self/attr/current");
    text_of("process.timens-offsets", "/proc/self/timens_offsets");

    // The session's keyring: the container's own one, or what was inherited.
    char keyring[256] = "";
    long length = syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, keyring, sizeof keyring);
    field("process.session-keyring", "%s", length < 0 ? error_name(errno) : keyring);
}

static void capability_set(const char *name, int (*has)(int)) {
    unsigned long long set = 0;
    for (int capability = 0; capability < 64; capability++) {
        if (has(capability) == 1) set |= 1ULL << capability;
    }
    field(name, "%016llx", set);
}

static int in_bounding(int capability) {
    return prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
}

static int in_ambient(int capability) {
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0);
}

void report_identity(void) {
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    field("identity.uid", "%u %u %u fs=%d", real, effective, saved, setfsuid(-1));
    gid_t groups[1024];
    getresgid(&real, &effective, &saved);
    field("identity.gid", "%u %u %u fs=%d", real, effective, saved, setfsgid(-1));
    int count = getgroups(1024, groups);
    list_begin();
    for (int i = 0; i < count; i++) list_item("%u", groups[i]);
    list_end("identity.groups");

    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {0};
    syscall(SYS_capget, &header, sets);
    field("capabilities.effective", "%08x%08x", sets[1].effective, sets[0].effective);
    field("capabilities.permitted", "%08x%08x", sets[1].permitted, sets[0].permitted);
    field("capabilities.inheritable", "%08x%08x", sets[1].inheritable, sets[0].inheritable);
    capability_set("capabilities.bounding", in_bounding);
    capability_set("capabilities.ambient", in_ambient);
    number("capabilities.securebits", prctl(PR_GET_SECUREBITS));
    number("identity.no-new-privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    number("seccomp.mode", prctl(PR_GET_SECCOMP));

    text_of("identity.uid-map", "/proc/self/uid_map");
    text_of("identity.gid-map", "/proc/self/gid_map");
    text_of("identity.setgroups", "/proc/self/setgroups");
}
