// What a process can see of itself and of its container, told as one JSON object of strings: `"field": "value"`.
#pragma once
#include <stddef.h>

// Writes one field. `name` and `format` are as printf's; the value is what `format` makes.
void field(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A list is built item by item and becomes one value, a JSON list in turn, so that order and count are compared too.
void list_begin(void);
void list_item(const char *format, ...) __attribute__((format(printf, 1, 2)));
void list_end(const char *name);
// The first and the last byte of the report.
void report_begin(void);
void report_end(void);
// `ENOENT`, not a sentence in anyone's language.
const char *error_name(int code);

void report_process(char **argv, char **environment);
void report_identity(void);
void report_signals(void);
void report_limits(void);
void report_descriptors(void);
void report_scheduling(void);
void report_namespaces(void);
void report_network(void);
void report_mounts(void);
void report_tree(const char *path, int depth);
void report_path(const char *path);
