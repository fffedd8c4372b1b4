package event

import "github.com/parley-chat/parley/internal/chat"

// Friend is the data of friend:requested, friend:accepted and friend:removed: the other side.
type Friend struct {
	User chat.Profile `json:"user"`
}

// FriendNotice reports a change of the relation with another user to a user's sockets.
func FriendNotice(typ, userID string, other chat.Profile) *Notice {
	return &Notice{UserID: userID, Type: typ, Data: Friend{other}}
}
