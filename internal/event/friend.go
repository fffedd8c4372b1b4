package event

import "github.com/parley-chat/parley/internal/chat"

// Friend is the data of friend:requested, friend:accepted and friend:removed: the other side.
type Friend struct {
	User chat.Profile `json:"user"`
}

// FriendNotice reports to a user's sockets what the user and another are to each other now.
func FriendNotice(typ, userID string, other chat.Profile) *Notice {
	return &Notice{UserID: userID, Type: typ, Data: Friend{other}}
}
