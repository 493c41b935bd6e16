// Proves nothing by itself: prints all that a process can see, for the test that compares Tandem with runc.
//
//     linux-probe wait|once [PATH...]
//
// Prints one line, a JSON object, with what it finds at each PATH too. With `wait` it then waits for ever.
#define _GNU_SOURCE
#include "probe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
    static char buffer[1 << 16];
    if (argc < 2) {
        fputs("usage: linux-probe wait|once [PATH...]\n", stderr);
        return 2;
    }
    // First what the rest could change. The buffer is a static one so that nothing is allocated, and no file opened.
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    report_begin();
    report_signals();
    report_limits();
    report_descriptors();
    report_process(argv, environ);
    report_identity();
    report_scheduling();
    report_namespaces();
    report_network();
    report_mounts();
    report_tree("/dev", 2);
    for (int i = 2; i < argc; i++) report_path(argv[i]);
    report_end();
    if (strcmp(argv[1], "wait") == 0)
        for (;;) pause();
    return 0;
}
