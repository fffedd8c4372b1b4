package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/timestamp"
)

// What a user's presence can be.
const (
	StatusOnline  = "online"
	StatusOffline = "offline"
)

// Presence is a user's presence as a viewer may see it.
type Presence struct {
	UserID string `json:"userId"`
	Status string `json:"status"`
	// LastSeenAt is nil while the user is online, and if the viewer may not see the user.
	LastSeenAt *timestamp.Time `json:"lastSeenAt"`
}

// PresenceChange is the data of presence:online and presence:offline.
type PresenceChange struct {
	UserID     string          `json:"userId"`
	LastSeenAt *timestamp.Time `json:"lastSeenAt"`
}

// PresenceState is a user's state in Redis. A higher Version is newer; 0 means that nothing is known.
type PresenceState struct {
	// Version is Redis's time of the last transition in microseconds.
	Version int64 `json:"version"`
	Online  bool  `json:"online"`
	// Seen is when the user was last seen, in microseconds of Redis's clock; 0 if unknown.
	Seen int64 `json:"seen"`
}

// PresenceNews is a message on a user's presence channel: a transition, or a change of the users who may see it.
type PresenceNews struct {
	PresenceState
	// Recheck is set if the users who may see this user have changed.
	Recheck bool `json:"recheck,omitempty"`
	// Profile is set if the user's profile changed: nothing else did, though Recheck is set too, for pods that know no Profile.
	Profile *ProfileChange `json:"profile,omitempty"`
}

// Encode writes the same text as the scripts of presence.
func (n PresenceNews) Encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("event: presence that does not encode: %v", err))
	}
	return b
}

// DecodePresence reads a text of Encode or of a script.
func DecodePresence(b []byte) (PresenceNews, error) {
	var n PresenceNews
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("decode presence: %w", err)
	}
	return n, nil
}

// At is a time of Redis's clock, nil for 0.
func At(micros int64) *timestamp.Time {
	if micros == 0 {
		return nil
	}
	return &timestamp.Time{Time: time.UnixMicro(micros).UTC()}
}

// PresencePair is a user who watches, and the user being watched.
type PresencePair struct {
	Viewer, Target string
}
