package realtime

import (
	"context"

	"github.com/parley-chat/parley/internal/event"
)

// baseline is a request for the presence with which a new socket begins: that of users as the viewer may see it.
type baseline struct {
	viewer string
	users  []string
}

// maxShared is the largest number of users in a baseline that is read together with others. Larger ones are read alone.
const maxShared = 256

func (w *watches) baseline(ctx context.Context, viewer string, users []string) ([]event.Presence, error) {
	switch {
	case len(users) == 0:
		return nil, nil
	case len(users) > maxShared:
		return w.presences.Read(ctx, viewer, users)
	}
	return w.baselines.Call(ctx, baseline{viewer, users})
}

// baselinesBy reads the baselines of several sockets at once.
func baselinesBy(p Presences) func(context.Context, []baseline) ([][]event.Presence, error) {
	return func(ctx context.Context, list []baseline) ([][]event.Presence, error) {
		var pairs []event.PresencePair
		for _, b := range list {
			for _, u := range b.users {
				pairs = append(pairs, event.PresencePair{Viewer: b.viewer, Target: u})
			}
		}
		all, err := p.ReadPairs(ctx, pairs)
		if err != nil {
			return nil, err
		}
		out := make([][]event.Presence, len(list))
		for i, b := range list {
			out[i], all = all[:len(b.users):len(b.users)], all[len(b.users):]
		}
		return out, nil
	}
}

// peersBy reads the friends and direct peers of several viewers at once.
func peersBy(p Presences) func(context.Context, []string) ([][]string, error) {
	return func(ctx context.Context, viewers []string) ([][]string, error) {
		by := make(map[string][]string, len(viewers))
		var once []string // each viewer once: several of the sockets may belong to one viewer
		for _, v := range viewers {
			if _, ok := by[v]; !ok {
				by[v], once = nil, append(once, v)
			}
		}
		pairs, err := p.Peers(ctx, once)
		if err != nil {
			return nil, err
		}
		for _, x := range pairs {
			by[x.Viewer] = append(by[x.Viewer], x.Target)
		}
		out := make([][]string, len(viewers))
		for i, v := range viewers {
			out[i] = by[v]
		}
		return out, nil
	}
}
