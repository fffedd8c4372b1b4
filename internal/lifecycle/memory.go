package lifecycle

import (
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is the part of the container's memory beyond which Go collects garbage more often. The rest is for memory that Go does not count,
// above all the kernel's buffers of sockets.
const memoryShare = 0.85

// LimitMemory sets Go's memory limit to memoryShare of the container's (cgroup v2 or v1), unless GOMEMLIMIT is set or the container has no limit.
// Call it once, before anything reads the limit.
func LimitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.FromCgroup)); err != nil {
		log.Debug("no memory limit of a container was found", "error", err)
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		log.Info("memory limit", "mib", limit>>20)
	}
}
