//go:build faultpoints

// Package fault defines points in the code at which tests kill or stall a process, or make it panic. They exist only in binaries built with the tag
// faultpoints; in all others a Point does nothing.
package fault

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// Point kills or stalls the process, or panics, where PARLEY_FAULT names it: "name=kill" sends SIGKILL, "name=panic" panics,
// "name=kill:FILE" and "name=panic:FILE" do so only while FILE exists, and "name=stall:FILE" waits while it does. Several are
// separated by commas.
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
		case action == "panic" && (file == "" || exists(file)):
			panic("fault point " + name)
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
