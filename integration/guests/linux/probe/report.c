// The report's format: one JSON object whose values are strings.
#define _GNU_SOURCE
#include "probe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE = 65536 };

static int fields;
static char list[VALUE];
static size_t listed;

static void quoted(FILE *to, const char *text) {
    fputc('"', to);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') fprintf(to, "\\%c", *c);
        else if (*c < 0x20 || *c > 0x7e) fprintf(to, "\\u%04x", *c);
        else fputc(*c, to);
    }
    fputc('"', to);
}

void report_begin(void) {
    fputc('{', stdout);
}

static void pair(const char *name, const char *value) {
    if (fields++) fputc(',', stdout);
    quoted(stdout, name);
    fputc(':', stdout);
    quoted(stdout, value);
}

void report_end(void) {
    // By which a reader knows that nothing is missing.
    pair("end", "yes");
    fputs("}\n", stdout);
    fflush(stdout);
}

void field(const char *name, const char *format, ...) {
    static char value[VALUE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    pair(name, value);
}

void list_begin(void) {
    listed = 0;
    list[0] = 0;
}

void list_item(const char *format, ...) {
    static char value[VALUE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    FILE *to = fmemopen(list + listed, VALUE - listed, "w");
    if (!to) return;
    if (listed) fputs(", ", to);
    quoted(to, value);
    fflush(to);
    fclose(to);
    listed += strlen(list + listed);
}

void list_end(const char *name) {
    static char value[VALUE + 2];
    snprintf(value, sizeof value, "[%s]", list);
    pair(name, value);
}

const char *error_name(int code) {
    static char number[16];
    const char *name = strerrorname_np(code);
    if (name) return name;
    snprintf(number, sizeof number, "%d", code);
    return number;
}
