package auth

import (
	"context"
	_ "embed"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/alexedwards/argon2id"
)

// params are OWASP's minimum for Argon2id: 19 MiB, two passes, one lane
// (cheatsheetseries.owasp.org, Password Storage).
var params = &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// maxWaiting is how many may wait to be hashed; more are refused with ErrBusy.
const maxWaiting = 64

// hasher hashes passwords, as many at once as leaves a processor for the sockets.
type hasher struct {
	working chan struct{}
	waiting chan struct{}
	// dummy is compared with where there is no such user, so that the answer takes as long.
	dummy string
}

func newHasher() (*hasher, error) {
	dummy, err := argon2id.CreateHash("no user has this password", params)
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return &hasher{
		working: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1)),
		waiting: make(chan struct{}, maxWaiting),
		dummy:   dummy,
	}, nil
}

// turn waits for one's turn to hash.
func (h *hasher) turn(ctx context.Context) (done func(), err error) {
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.working <- struct{}{}:
		return func() { <-h.working }, nil
	case <-ctx.Done():
		return nil, ErrBusy
	}
}

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	s, err := argon2id.CreateHash(password, params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return s, nil
}

// matches tells whether the password is that of the hash. An empty hash matches none and takes as long.
func (h *hasher) matches(ctx context.Context, password, hash string) (bool, error) {
	done, err := h.turn(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	compared := hash
	if hash == "" {
		compared = h.dummy
	}
	ok, err := argon2id.ComparePasswordAndHash(password, compared)
	if err != nil {
		return false, fmt.Errorf("compare a password: %w", err)
	}
	return ok && hash != "", nil
}

// commonestList has passwords of eight and more characters that lead the published lists of leaked ones.
//
//go:embed commonest.txt
var commonestList string

var commonestSet = sync.OnceValue(func() map[string]bool {
	set := map[string]bool{}
	for _, s := range strings.Fields(commonestList) {
		set[s] = true
	}
	return set
})

func commonest(password string) bool { return commonestSet()[strings.ToLower(password)] }
