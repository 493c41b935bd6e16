package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// serve answers every request on a port, writes its process id where nginx does, and logs its name as httpd does.
// Arguments after the options mean nothing to it: specs look for nginx's "master process" in the command line.
func serve(args []string) error {
	options := flag.NewFlagSet("serve", flag.ContinueOnError)
	port := options.Int("port", 80, "TCP port")
	pidFile := options.String("pid-file", "", "file for the process id")
	if err := options.Parse(args); err != nil {
		return err
	}
	if *pidFile != "" {
		if err := os.WriteFile(*pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
			return err
		}
	}
	// Process 1 of a container dies of no signal that it does not handle.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()
	name := filepath.Base(os.Args[0])
	fmt.Printf("%s: serving port %d\n", name, *port)
	return http.ListenAndServe(fmt.Sprintf(":%d", *port), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s\n", name)
	}))
}
