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

// hashMemory bounds the memory of all passwords that are hashed at once, in MiB, whatever the number of processors.
const hashMemory = 96

// hasher hashes passwords. The number of concurrent hashes is bounded by hashMemory, and leaves one processor free for the sockets.
type hasher struct {
	turns *turns
	// dummy is compared with the password if there is no such user, so that the response takes as long.
	dummy string
}

func newHasher() (*hasher, error) {
	dummy, err := argon2id.CreateHash("no user has this password", params)
	if err != nil {
		return nil, fmt.Errorf("hash a password: %w", err)
	}
	return &hasher{turns: newTurns(hashMemory, max(1, runtime.GOMAXPROCS(0)-1)), dummy: dummy}, nil
}

// mebibytes returns the memory that one hash with the parameters needs.
func mebibytes(p *argon2id.Params) int { return int((p.Memory + 1023) / 1024) }

// hash hashes a password. The subject is the account; accounts get their turns in rotation.
func (h *hasher) hash(ctx context.Context, subject, password string) (string, error) {
	release, err := h.turns.await(ctx, subject, mebibytes(params))
	if err != nil {
		return "", err
	}
	defer release()
	s, err := argon2id.CreateHash(password, params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return s, nil
}

// matches reports whether the password belongs to the hash. An empty hash never matches and takes equally long.
func (h *hasher) matches(ctx context.Context, subject, password, hash string) (bool, error) {
	compared := hash
	if hash == "" {
		compared = h.dummy
	}
	p, _, _, err := argon2id.DecodeHash(compared)
	if err != nil {
		return false, fmt.Errorf("read a password's hash: %w", err)
	}
	release, err := h.turns.await(ctx, subject, mebibytes(p))
	if err != nil {
		return false, err
	}
	defer release()
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
