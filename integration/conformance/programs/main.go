// The programs of the test images: the suite's own images hold nginx, httpd and util-linux, which a registry would
// have to provide. One static binary, linked under the name of each program, does what the specs look at.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	name := filepath.Base(os.Args[0])
	programs := map[string]func(args []string) error{
		"pause":      pause,
		"nginx":      serve,
		"httpd":      serve,
		"ipcs":       listSharedMemory,
		"pgrep":      findProcesses,
		"nonewprivs": effectiveUser,
	}
	program, known := programs[name]
	if !known {
		fmt.Fprintf(os.Stderr, "%s: not a program of the test images; link the binary under one's name\n", name)
		os.Exit(127)
	}
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
