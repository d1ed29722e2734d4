// Command pause is the first process of every pod: it holds the pod's network namespace open and reaps
// orphans when the pod shares its process namespace. It is the same in purpose as the image that Kubernetes
// publishes, written again because a machine without an image registry cannot pull that one, and in Go so that
// no C compiler is needed.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap collects every child that has ended; one SIGCHLD may stand for many.
func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}
