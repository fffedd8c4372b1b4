package auth_test

import (
	"errors"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

func secrets(s ...string) (out [][]byte) {
	for _, x := range s {
		out = append(out, []byte(x+" of at least thirty-two bytes, or so"))
	}
	return out
}

func TestARememberedTokenExpiresToo(t *testing.T) {
	t.Parallel()
	tokens := auth.NewTokens(secrets("a"), -29*time.Second) // within the leeway, for one second more
	token, err := tokens.Issue(id.New(), id.New())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := tokens.Verify(token); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, 5*time.Second, func() bool {
		_, err := tokens.Verify(token)
		return errors.Is(err, auth.ErrUnauthorized)
	}, "it is refused")
}

// Pods' clocks differ: a token of one that is 25 seconds ahead is good at the others, one from the future is not.
func TestTheClocksOfPodsMayDiffer(t *testing.T) {
	t.Parallel()
	key := secrets("a")
	for ahead, good := range map[time.Duration]bool{0: true, 25 * time.Second: true, time.Minute: false} {
		now := time.Now().Add(ahead)
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iss": "parley", "aud": "parley", "sub": id.New(), "sid": id.New(), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}).SignedString(key[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := auth.NewTokens(key, time.Hour).Verify(token); (err == nil) != good {
			t.Errorf("a token of a pod that is %s ahead: %v", ahead, err)
		}
	}
}

func TestRememberedTokensAreBoundedAndTheirOwn(t *testing.T) {
	t.Parallel()
	tokens := auth.NewTokens(secrets("b", "a"), time.Hour)
	for range 17_000 {
		user, session := id.New(), id.New()
		token, err := tokens.Issue(user, session)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if who, err := tokens.Verify(token); err != nil || who.UserID != user || who.SessionID != session {
				t.Fatalf("%+v, %v", who, err)
			}
		}
	}
	forged, err := auth.NewTokens(secrets("c"), time.Hour).Issue(id.New(), id.New())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := tokens.Verify(forged); !errors.Is(err, auth.ErrUnauthorized) {
			t.Errorf("a forged token: %v", err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	tokens := auth.NewTokens(secrets("a"), time.Hour)
	token, err := tokens.Issue(id.New(), id.New())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}
