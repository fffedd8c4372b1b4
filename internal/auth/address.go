package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

// Addresses from which a user logged in or refreshed a session are kept for a while, hashed. Too many wrong passwords lock a
// username for callers from anywhere, which anybody can bring about; the account's owner still gets in from a known address.
const (
	// addressesEach is how many addresses of one user are kept, the latest used ones.
	addressesEach = 20
	// addressDays is how long an unused address stays known.
	addressDays = 90
)

// addressHash is the stored form of an address: enough to recognise it. It includes the user's id, so the hashes of two users don't
// reveal that they used the same address.
func addressHash(userID, address string) string {
	h := sha256.Sum256([]byte(userID + "\x00" + address))
	return hex.EncodeToString(h[:16])
}

// KnownAddress reports whether the user of a username was logged in from the address lately. It is false for an unknown user.
func (s *Service) KnownAddress(ctx context.Context, username, address string) (bool, error) {
	username = strings.ToLower(username)
	if address == "" || !usernameRule.MatchString(username) {
		return false, nil
	}
	a, err := s.store.account(ctx, "username", username)
	if err != nil || a.ID == "" {
		return false, err
	}
	return s.store.knownAddress(ctx, a.ID, addressHash(a.ID, address))
}

func (s *store) knownAddress(ctx context.Context, userID, hash string) (bool, error) {
	yes, err := postgres.Value[bool](ctx, s.db.SQL, `SELECT EXISTS (SELECT FROM login_addresses
		WHERE user_id = $1 AND address_hash = $2 AND last_used_at > clock_timestamp() - make_interval(days => $3))`,
		userID, hash, addressDays)
	if err != nil {
		return false, fmt.Errorf("look up an address: %w", err)
	}
	return yes, nil
}

// noteAddress keeps an address of a user's, and forgets those that are too many.
func noteAddress(tx *gorm.DB, userID, address string) error {
	if address == "" {
		return nil
	}
	fresh, err := postgres.Value[bool](postgres.Context(tx), postgres.In(tx), `INSERT INTO login_addresses (user_id, address_hash) VALUES ($1, $2)
		ON CONFLICT (user_id, address_hash) DO UPDATE SET last_used_at = clock_timestamp() RETURNING xmax = 0`,
		userID, addressHash(userID, address))
	if err != nil {
		return fmt.Errorf("keep an address: %w", err)
	}
	if !fresh {
		return nil
	}
	_, err = postgres.Exec(tx, `DELETE FROM login_addresses WHERE user_id = $1 AND address_hash IN (
		SELECT address_hash FROM login_addresses WHERE user_id = $1 ORDER BY last_used_at DESC OFFSET $2 FOR UPDATE SKIP LOCKED)`,
		userID, addressesEach)
	if err != nil {
		return fmt.Errorf("forget addresses: %w", err)
	}
	return nil
}

// forgetAddresses forgets a user's addresses but one, "" for all.
func forgetAddresses(tx *gorm.DB, userID, except string) error {
	keep := ""
	if except != "" {
		keep = addressHash(userID, except)
	}
	if _, err := postgres.Exec(tx, `DELETE FROM login_addresses WHERE user_id = $1 AND address_hash <> $2`, userID, keep); err != nil {
		return fmt.Errorf("forget addresses: %w", err)
	}
	return nil
}
