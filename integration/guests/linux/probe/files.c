// What a process sees of files: its mounts, the tree of its devices, any path it is asked about.
#define _GNU_SOURCE
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MOUNTS = 512, NAMES = 1024 };

static int occurrences(char **points, int count, const char *point) {
    int found = 0;
    for (int i = 0; i < count; i++) found += strcmp(points[i], point) == 0;
    return found;
}

// One line of mountinfo: id parent dev root point options [propagation…] - type source superoptions.
static const char *one_mount(char *line, char **points, int count) {
    char *separator = strstr(line, " - ");
    if (!separator) return "";
    *separator = 0;
    char *save, *fields[64];
    int length = 0;
    for (char *word = strtok_r(line, " ", &save); word && length < 64; word = strtok_r(NULL, " ", &save)) fields[length++] = word;
    if (length < 6) return "";
    char *type = strtok_r(separator + 3, " ", &save), *source = strtok_r(NULL, " ", &save), *super = strtok_r(NULL, " \n", &save);
    char propagation[256] = "";
    for (int i = 6; i < length; i++) {
        // Peer groups have numbers that say nothing.
        char *colon = strchr(fields[i], ':');
        if (colon) *colon = 0;
        strcat(strcat(propagation, *propagation ? " " : ""), fields[i]);
    }
    char name[4200], point[4096];
    // Several mounts on one point are told apart by their height.
    int below = occurrences(points, count, fields[4]);
    snprintf(point, sizeof point, below ? "%s#%d" : "%s", fields[4], below);
#define PART(what, ...) snprintf(name, sizeof name, "mounts %s " what, point), field(name, __VA_ARGS__)
    PART("type", "%s", type ? type : "");
    PART("source", "%s", source ? source : "");
    PART("root", "%s", fields[3]);
    PART("flags", "%s", fields[5]);
    PART("options", "%s", super ? super : "");
    PART("propagation", "%s", *propagation ? propagation : "private");
#undef PART
    return fields[4];
}

void report_mounts(void) {
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table) {
        field("mounts", "%s", error_name(errno));
        return;
    }
    char *line = NULL, *points[MOUNTS];
    size_t size = 0;
    int count = 0;
    while (count < MOUNTS && getline(&line, &size, table) > 0) {
        points[count] = strdup(one_mount(line, points, count));
        count++;
    }
    fclose(table);
    list_begin();
    for (int i = 0; i < count; i++) list_item("%s", points[i]);
    list_end("mounts.order");
}

static void describe(char *to, size_t size, const char *path) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        snprintf(to, size, "%s", error_name(errno));
        return;
    }
    int used = snprintf(to, size, "%06o %u:%u", status.st_mode, status.st_uid, status.st_gid);
    if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
        snprintf(to + used, size - used, " %u,%u", major(status.st_rdev), minor(status.st_rdev));
    } else if (S_ISLNK(status.st_mode)) {
        char target[2048];
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = 0;
        snprintf(to + used, size - used, " -> %s", target);
    }
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

void report_tree(const char *path, int depth) {
    char name[4200], description[4096];
    describe(description, sizeof description, path);
    snprintf(name, sizeof name, "tree %s", path);
    field(name, "%s", description);
    struct stat status;
    if (depth == 0 || lstat(path, &status) != 0 || !S_ISDIR(status.st_mode)) return;
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    for (int i = 0; i < count; i++) {
        char below[4096];
        if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..") &&
            snprintf(below, sizeof below, "%s/%s", path, entries[i]->d_name) < (int)sizeof below)
            report_tree(below, depth - 1);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

// Whether something can be made in a directory; it is taken away again.
static const char *can_make(const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/.probe", directory);
    int file = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return error_name(errno);
    close(file);
    unlink(path);
    return "yes";
}

void report_path(const char *path) {
    char name[4200], text[4096];
    describe(text, sizeof text, path);
    snprintf(name, sizeof name, "path %s is", path);
    field(name, "%s", text);
    struct stat status;
    snprintf(name, sizeof name, "path %s writable", path);
    if (stat(path, &status) != 0) return;
    if (S_ISDIR(status.st_mode)) {
        field(name, "%s", can_make(path));
        DIR *directory = opendir(path);
        snprintf(name, sizeof name, "path %s entries", path);
        int count = 0;
        while (directory && readdir(directory)) count++;
        if (directory) closedir(directory);
        field(name, "%d", count);
        return;
    }
    int file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    field(name, "%s", file < 0 ? error_name(errno) : "yes");
    if (file >= 0) close(file);
    snprintf(name, sizeof name, "path %s content", path);
    file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        field(name, "%s", error_name(errno));
        return;
    }
    // A device has no end, and its bytes say nothing.
    if (S_ISREG(status.st_mode)) {
        ssize_t length = read(file, text, 512);
        text[length < 0 ? 0 : length] = 0;
        field(name, "%s", length < 0 ? error_name(errno) : text);
    } else {
        field(name, "can be opened");
    }
    close(file);
}
