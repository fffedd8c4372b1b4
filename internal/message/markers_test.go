package message_test

import (
	"context"
	"github.com/parley-chat/parley/internal/chat"
	"testing"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// flushedMeanwhile are markers that are flushed while they are read.
type flushedMeanwhile func()

func (f flushedMeanwhile) Markers(context.Context, string) map[string]chat.PendingMarker {
	f()
	return nil
}

// Whoever reads what is pending reads it before Postgres, so that what is flushed in between is seen in one of them.
func TestAFlushMeanwhileMovesNoUnreadCountBack(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, users...)
	for range 5 {
		p.send(t, c, users[0], "x")
	}
	seq := 0
	conversations := conversation.NewService(p.db, conversation.NewStore(p.db, message.NewStore(p.db)), flushedMeanwhile(func() {
		seq++
		if _, err := p.db.SQL.Exec(`UPDATE conversation_members SET last_read_seq = $1 WHERE user_id = $2`, seq, users[1]); err != nil {
			t.Error(err)
		}
	}), p.published, noMarkers{})
	o, err := conversations.Object(t.Context(), c, users[1])
	if err != nil || o.LastReadSeq != 1 || o.UnreadCount != 4 {
		t.Errorf("got %+v, %v", o.Marker, err)
	}
	list, _, err := conversations.List(t.Context(), users[1], conversation.Selection{Filter: conversation.FilterDefault}, nil, 10)
	if err != nil || len(list) != 1 || list[0].LastReadSeq != 2 || list[0].UnreadCount != 3 {
		t.Errorf("listed %+v, %v", list, err)
	}
}
