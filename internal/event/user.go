package event

import "github.com/parley-chat/parley/internal/chat"

// UserUpdated is the data of a user:updated: the user with the new name or picture.
type UserUpdated struct {
	User chat.Profile `json:"user"`
}

// ProfileChange is a user's profile after it changed. At, Postgres's time of the change in microseconds, distinguishes two changes.
type ProfileChange struct {
	User chat.Profile `json:"user"`
	At   int64        `json:"at"`
}

// ProfileNotice reports a changed profile to the pods that hold sockets of the user's own.
func ProfileNotice(c ProfileChange) *Notice {
	return &Notice{UserID: c.User.ID, Type: TypeUserUpdated, Data: UserUpdated{c.User}, Profile: &c}
}
