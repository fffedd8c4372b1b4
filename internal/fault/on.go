//go:build faultpoints

// Package fault has the instants at which tests kill or stall a process. They exist only in binaries built with the tag
// faultpoints; in all others a Point is nothing.
package fault

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// Point kills or stalls the process where PARLEY_FAULT names it: "name=kill" sends SIGKILL, "name=stall:FILE" waits while
// FILE exists. Several are separated by commas. "name=kill:FILE" kills only while FILE exists.
func Point(name string) {
	for _, f := range strings.Split(os.Getenv("PARLEY_FAULT"), ",") {
		point, what, _ := strings.Cut(f, "=")
		if point != name {
			continue
		}
		action, file, _ := strings.Cut(what, ":")
		switch {
		case action == "kill" && (file == "" || exists(file)):
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case action == "stall":
			for exists(file) {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
