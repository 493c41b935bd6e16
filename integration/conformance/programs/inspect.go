package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// listSharedMemory prints the System V shared memory segments of its IPC namespace: `ipcs -m`.
func listSharedMemory(args []string) error {
	if !slices.Equal(args, []string{"-m"}) {
		return fmt.Errorf("only -m is known, not %q", args)
	}
	// The kernel's own table, sysvipc(5): key, shmid and more in columns.
	table, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(table)
	return err
}

// findProcesses prints the ids of the processes whose name contains its argument, and fails where there is none.
func findProcesses(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one pattern is needed, not %q", args)
	}
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	found := false
	for _, file := range names {
		// A process may end between the listing and the look.
		name, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(name), args[0]) {
			continue
		}
		fmt.Println(filepath.Base(filepath.Dir(file)))
		found = true
	}
	if !found {
		os.Exit(1)
	}
	return nil
}

// effectiveUser tells whether the set-user-ID bit of its file had its effect.
func effectiveUser([]string) error {
	_, err := fmt.Printf("Effective uid: %d\n", os.Geteuid())
	return err
}
