package auth

import (
	"regexp"
	"strings"

	"github.com/parley-chat/parley/internal/invalid"
)

var usernameRule = regexp.MustCompile(`^[A-Za-z0-9_.]{3,32}$`)

// formerDeleted are the names that older versions gave to deleted accounts.
var formerDeleted = regexp.MustCompile(`^deleted_[0-9a-f]{24}$`)

// reserved are usernames that could impersonate the service or its operators, without separators.
var reserved = map[string]bool{
	"abuse": true, "admin": true, "administrator": true, "admins": true, "deleted": true, "deleteduser": true, "everyone": true,
	"help": true, "helpdesk": true, "hostmaster": true, "moderator": true, "moderators": true, "noreply": true, "null": true,
	"official": true, "operator": true, "parley": true, "parleychat": true, "postmaster": true, "root": true, "security": true,
	"staff": true, "superuser": true, "support": true, "sysadmin": true, "system": true, "undefined": true, "webmaster": true,
}

var separators = strings.NewReplacer("_", "", ".", "")

// ReservedUsername reports whether a username is reserved. Case and separators don't matter: admin, Ad.min and _admin_ are the same.
func ReservedUsername(username string) bool {
	name := strings.ToLower(username)
	return reserved[separators.Replace(name)] || formerDeleted.MatchString(name)
}

func checkUsername(f *invalid.Faults, s *string) {
	if !usernameRule.MatchString(*s) { // before folding: other alphabets have letters that fold to ours
		f.Add("username", "must have 3 to 32 characters of a-z, 0-9, _ and .")
	}
	*s = strings.ToLower(*s)
	if ReservedUsername(*s) {
		f.Add("username", "is reserved")
	}
}

// isUsername reports whether a password is the account's own username.
func isUsername(password, username string) bool { return strings.EqualFold(password, username) }

// deletedUsernameSQL is the name of a deleted account. The hyphen is in no username, so no user can have it; the 24 digits
// are the random part of the id.
const deletedUsernameSQL = `'deleted-' || right(replace(id::text, '-', ''), 24)`
