package event

// Friend is the data of friend:requested, friend:accepted and friend:removed: the other side.
type Friend struct {
	User User `json:"user"`
}

// FriendNotice tells a user's sockets of what became of them and another.
func FriendNotice(typ, userID string, other User) *Notice {
	return &Notice{UserID: userID, Type: typ, Frame: NewFrame(typ, Friend{other})}
}
