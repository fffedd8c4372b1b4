package audit

import "context"

// As is the context's actor as a user: the user's own request, or that of a key that acts for the user. It is for changes that a user
// makes, also before the request has an actor, as at registration.
func As(ctx context.Context, userID string) Actor {
	a := From(ctx)
	a.UserID = userID
	return a
}

// ForOutbox is what ActorSQL takes.
func (a Actor) ForOutbox() string { return a.UserID + "/" + a.KeyID }

// ActorSQL is an item for the FROM clause of a statement that changes users or friendships. It names the author to the triggers that write
// the outbox (migration 00016), for the rest of the transaction, without a statement of its own. param is the placeholder of ForOutbox's
// result. A FROM item whose function is volatile is evaluated also if nothing refers to it, and triggers run after that.
func ActorSQL(param string) string {
	return ` (SELECT set_config('parley.actor', ` + param + `, true)) actor `
}
