package main

import (
	"os"
	"os/signal"
	"syscall"
)

// pause holds a pod's namespaces until it is told to end. It is process 1 where containers share a pod's processes,
// so it also reaps the orphans.
func pause([]string) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for signal := range signals {
		if signal != syscall.SIGCHLD {
			break
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
	return nil
}
