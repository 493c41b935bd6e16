// Proves: a preview 1 module made by Go's own compiler, with its runtime, scheduler and garbage collector, sees the
// container's arguments, environment and files, and ends with the exit code it asks for. See usage.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

const usage = `usage: tool-go COMMAND [ARGUMENT...]; without a command: print one line and exit
  args [ANY...]    print the arguments, one a line, as argv[N]=VALUE
  env              print the environment, one NAME=VALUE a line
  cat FILE         copy FILE to stdout
  write FILE TEXT  make or replace FILE with TEXT and a newline
  sleep SECONDS    sleep; fractions are allowed
  sum N            print the sum of 1 to N, added up by as many goroutines
  exit N           exit with code N
`

func main() {
	code, err := run(os.Args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tool-go: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func run(argv []string) (int, error) {
	if len(argv) < 2 {
		fmt.Println("hello from go")
		return 0, nil
	}
	words := argv[2:]
	switch command := argv[1]; {
	case command == "args":
		for at, value := range argv {
			fmt.Printf("argv[%d]=%s\n", at, value)
		}
	case command == "env" && len(words) == 0:
		for _, entry := range os.Environ() {
			fmt.Println(entry)
		}
	case command == "cat" && len(words) == 1:
		content, err := os.ReadFile(words[0])
		if err != nil {
			return 0, err
		}
		if _, err := os.Stdout.Write(content); err != nil {
			return 0, err
		}
	case command == "write" && len(words) == 2:
		return 0, os.WriteFile(words[0], []byte(words[1]+"\n"), 0o644)
	case command == "sleep" && len(words) == 1:
		wanted, err := time.ParseDuration(words[0] + "s")
		if err != nil {
			return 0, err
		}
		time.Sleep(wanted)
	case command == "sum" && len(words) == 1:
		last, err := strconv.Atoi(words[0])
		if err != nil {
			return 0, err
		}
		fmt.Println(sum(last))
	case command == "exit" && len(words) == 1:
		return strconv.Atoi(words[0])
	default:
		fmt.Fprint(os.Stderr, usage)
		return 2, nil
	}
	return 0, nil
}

// sum adds up 1 to last, each by a goroutine of its own.
func sum(last int) int {
	numbers := make(chan int)
	var senders sync.WaitGroup
	for number := 1; number <= last; number++ {
		senders.Add(1)
		go func(number int) {
			defer senders.Done()
			numbers <- number
		}(number)
	}
	go func() {
		senders.Wait()
		close(numbers)
	}()
	total := 0
	for number := range numbers {
		total += number
	}
	return total
}
