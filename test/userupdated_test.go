package test

import (
	"database/sql"
	"testing"
	"time"
)

type updated struct {
	User struct {
		ID, Username, DisplayName string
		AvatarURL                 *string
	}
}

// named reads the next user:updated, which must be of the user, with that name.
func (s *socket) named(who user, name string) {
	s.t.Helper()
	var d updated
	if s.until("user:updated", 10*time.Second).into(s.t, &d); d.User.ID != who.ID || d.User.Username != who.Username || d.User.DisplayName != name {
		s.t.Errorf("user:updated of %+v, want %s as %q", d.User, who.Username, name)
	}
}

func TestANewNameReachesThoseWhoSeeTheUser(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 6)
	anna, friend, peer, watcher, stranger, blocked := u[0], u[1], u[2], u[3], u[4], u[5]
	p.befriend(t, anna, friend)
	p.direct(t, anna, peer)
	p.group(t, anna, stranger, watcher, blocked)
	p.direct(t, anna, blocked)
	p.want(t, 204, anna.token, "PUT", "/api/blocks/"+blocked.ID, nil)
	own, other := p.openAs(t, anna, "phone"), q.openAs(t, anna, "laptop")
	friends, peers, watchers, strangers, hidden := q.open(t, friend), p.open(t, peer), q.open(t, watcher), q.open(t, stranger), q.open(t, blocked)
	watchers.watch(anna.ID)
	hidden.watch(anna.ID)
	all := []*socket{own, other, friends, peers, watchers}
	rename := func(name string) {
		t.Helper()
		p.want(t, 200, anna.token, "PATCH", "/api/users/me", map[string]any{"displayName": name})
	}
	hear := func(name string) {
		t.Helper()
		for _, sock := range all {
			sock.named(anna, name)
		}
	}
	rename("Anna One")
	hear("Anna One")
	p.want(t, 200, anna.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Anna One"}) // nothing new
	rename("Anna Two")
	hear("Anna Two")

	// However the change was made, and whether or not Redis heard of it.
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE users SET display_name = 'Anna Three' WHERE id = $1`, anna.ID); err != nil {
		t.Fatal(err)
	}
	hear("Anna Three")
	s.redis.Stop()
	rename("Anna Four")
	hear("Anna Four")
	s.redis.Start()

	// Nobody got any of them twice, and nobody else got one: the socket answers, and everything before that is seen.
	for i, sock := range append(all, strangers, hidden) {
		for _, f := range sock.upToPong() {
			if f.Type == "user:updated" {
				t.Errorf("socket %d got one more than was due: %s", i, f.Data)
			}
		}
	}
}
