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
	// LastSeenAt is nil while the user is online, and where the viewer may not see them.
	LastSeenAt *timestamp.Time `json:"lastSeenAt"`
}

// PresenceChange is the data of presence:online and presence:offline.
type PresenceChange struct {
	UserID     string          `json:"userId"`
	LastSeenAt *timestamp.Time `json:"lastSeenAt"`
}

// PresenceState is what Redis knows of a user. It rises with Version; 0 is for nothing known.
type PresenceState struct {
	// Version is Redis's time of the last transition in microseconds.
	Version int64 `json:"version"`
	Online  bool  `json:"online"`
	// Seen is when the user was last seen, in microseconds of Redis's clock; 0 where that is not known.
	Seen int64 `json:"seen"`
}

// PresenceNews is what is published on a user's presence channel: a transition, or that others may see them now, or no more.
type PresenceNews struct {
	PresenceState
	// Recheck is set where who may see the user has changed.
	Recheck bool `json:"recheck,omitempty"`
	// Profile is set if the user's profile changed: nothing else did, though Recheck is set too, for pods that know no Profile.
	Profile *ProfileChange `json:"profile,omitempty"`
}

// Encode writes the news as the scripts do.
func (n PresenceNews) Encode() []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("event: presence that does not encode: %v", err))
	}
	return b
}

// DecodePresence reads what Encode or a script wrote.
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

// PresencePair is one who watches, and who is watched.
type PresencePair struct {
	Viewer, Target string
}
