package lifecycle

import (
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is how much of the container's memory Go may use before it collects garbage more often: the rest is for what
// Go does not count, the kernel's buffers of sockets above all.
const memoryShare = 0.85

// LimitMemory has Go's memory limit follow that of the container, by cgroup v2 or v1, unless GOMEMLIMIT sets one. Without a
// limit there is none. It is called once, before anything reads the limit.
func LimitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup)); err != nil {
		log.Debug("no memory limit of a container was found", "error", err)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		log.Info("memory limit", "mib", limit>>20)
	}
}
