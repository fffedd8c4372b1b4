package redisconn

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Call is a run of a script.
type Call struct {
	Script *redis.Script
	Keys   []string
	Args   []any
}

// RunScripts runs scripts in one pipeline, in their order except those that Redis does not know: they run again after the
// others. Errors of single scripts are left in their commands; the error is the pipeline's own.
func RunScripts(ctx context.Context, rdb redis.UniversalClient, calls []Call) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(calls))
	unknown := make([]int, 0, len(calls))
	for i := range calls {
		unknown = append(unknown, i)
	}
	eval := (*redis.Script).EvalSha
	for range 2 {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range unknown {
				cmds[i] = eval(calls[i].Script, ctx, p, calls[i].Keys, calls[i].Args...)
			}
			return nil
		})
		if err != nil && !isAnswer(err) {
			return nil, fmt.Errorf("run scripts: %w", err)
		}
		var again []int
		for _, i := range unknown {
			if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
				again = append(again, i)
			}
		}
		if len(again) == 0 {
			break
		}
		unknown, eval = again, (*redis.Script).Eval
	}
	return cmds, nil
}

// FirstError is the first error of commands.
func FirstError(cmds []*redis.Cmd) error {
	for _, c := range cmds {
		if err := c.Err(); err != nil {
			return fmt.Errorf("run a script: %w", err)
		}
	}
	return nil
}

// isAnswer reports whether an error is Redis's reply to a command, rather than one of the connection.
func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}
