package httpapi

import (
	"context"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/timestamp"
	"github.com/parley-chat/parley/internal/webhook"
)

// someTime is the time of everything that fakes return.
var someTime = timestamp.Time{Time: time.Date(2027, 1, 2, 3, 4, 5, 6000, time.UTC)}

// newKey is the secret of a key that is created.
const newKey = "parley_sk_0193a00000007000800000000000000f_kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"

// keyedDomain is the state of the fakes behind the server API. All of them return err, if it is set.
type keyedDomain struct {
	calls *calls
	err   error
	// itemErr is the error of each item of a bulk.
	itemErr error
	// more is set if lists have further pages.
	more bool
	// created is set if puts create, repeated if a message was sent before.
	created, repeated bool
	// standing is what Standing returns.
	standing error
	// ctx is the context of the last call.
	ctx context.Context //nolint:containedctx // a test looks at what it carries
}

// add records a call.
func (k *keyedDomain) add(ctx context.Context, name string, args ...any) error {
	k.ctx = ctx
	k.calls.add(name, args...)
	return k.err
}

// serverKeysFake knows some tokens.
type serverKeysFake struct {
	calls *calls
	known map[string]principal.Principal
	// err is what Authenticate returns for every token, domainErr what the others return.
	err, domainErr error
}

func (f *serverKeysFake) Authenticate(_ context.Context, token string) (principal.Principal, error) {
	p, ok := f.known[token]
	switch {
	case f.err != nil:
		return principal.Principal{}, f.err
	case !ok:
		return principal.Principal{}, serverkey.ErrUnauthorized
	}
	return p, nil
}

func (f *serverKeysFake) List(context.Context) ([]serverkey.Key, error) {
	f.calls.add("List")
	return []serverkey.Key{{ID: keyID, Name: "back end", Scopes: principal.Scopes{principal.Users}, CreatedAt: someTime}}, f.domainErr
}

func (f *serverKeysFake) Create(_ context.Context, by *principal.Principal, d *serverkey.Draft) (serverkey.Created, error) {
	f.calls.add("Create", by.KeyID, d)
	return serverkey.Created{Key: serverkey.Key{ID: bob, Name: d.Name, Scopes: d.Scopes, CreatedAt: someTime}, Secret: newKey}, f.domainErr
}

func (f *serverKeysFake) End(_ context.Context, keyID string) error {
	f.calls.add("End", keyID)
	return f.domainErr
}

// serverAuthFake has Parley's own tokens, and the sessions that keys open and end. Calls of the other methods panic.
type serverAuthFake struct {
	accounts
	knownAddresses
	refreshSessions
	*auth.Tokens
	keyed *keyedDomain
}

func (f *serverAuthFake) Mint(ctx context.Context, userID, keyID string, ttl time.Duration) (auth.Pair, error) {
	err := f.keyed.add(ctx, "Mint", userID, keyID, ttl)
	return auth.Pair{
		User:        chat.Own{Profile: chat.Profile{ID: userID, Username: "ada", DisplayName: "Ada"}, CreatedAt: someTime, Privacy: chat.Privacy{PresenceSharing: "everyone"}},
		AccessToken: "a.b.c", RefreshToken: "refresh", ExpiresIn: 15 * time.Minute,
	}, err
}

func (f *serverAuthFake) EndAll(ctx context.Context, userID string) error {
	return f.keyed.add(ctx, "EndAll", userID)
}

// watchedStandings reads standings from memory as in production, and others' from the fake.
type watchedStandings struct {
	*directory.Watch
	keyed *keyedDomain
}

func (f *watchedStandings) Standing(context.Context, string) error { return f.keyed.standing }

// serverUsersFake knows ext:ada and ext:bob/1, and every well-formed id.
type serverUsersFake keyedDomain

func (f *serverUsersFake) Resolve(ctx context.Context, name string) (string, error) {
	u, err := f.ResolveAll(ctx, []string{name})
	if err != nil {
		return "", err
	}
	return u[0].ID, nil
}

func (f *serverUsersFake) ResolveAll(_ context.Context, names []string) ([]directory.Named, error) {
	out := make([]directory.Named, len(names))
	for i, n := range names {
		switch {
		case n == "ext:ada":
			out[i].ID = ada
		case n == "ext:bob/1":
			out[i] = directory.Named{ID: bob, Bot: true}
		case id.Valid(n):
			out[i].ID = n
		default:
			return nil, directory.ErrNotFound
		}
	}
	return out, nil
}

func (f *serverUsersFake) Upsert(_ context.Context, items []*directory.Item) error {
	for _, i := range items {
		switch {
		case i.Err == nil && f.itemErr != nil:
			i.Err, i.Result = f.itemErr, directory.Failed
		case i.Err == nil:
			i.ID, i.Result = ada, directory.Created
		}
		f.calls.add("Upsert", i.Draft, i.Result)
	}
	return (*keyedDomain)(f).err
}

func (f *serverUsersFake) List(ctx context.Context, filter directory.Filter) ([]directory.User, bool, error) {
	err := (*keyedDomain)(f).add(ctx, "List", filter)
	return []directory.User{f.user(ada), f.user(bob)}, f.more, err
}

func (*serverUsersFake) user(userID string) directory.User {
	return directory.User{ID: userID, Username: "ada", DisplayName: "Ada", Kind: directory.Person, Metadata: []byte(`{}`), CreatedAt: someTime, UpdatedAt: someTime}
}

func (f *serverUsersFake) changed(ctx context.Context, name, userID string, args ...any) (directory.User, error) {
	err := (*keyedDomain)(f).add(ctx, name, append([]any{userID}, args...)...)
	return f.user(userID), err
}

func (f *serverUsersFake) Get(ctx context.Context, userID string) (directory.User, error) {
	return f.changed(ctx, "Get", userID)
}

func (f *serverUsersFake) Update(ctx context.Context, userID string, p *directory.Patch) (directory.User, error) {
	return f.changed(ctx, "Update", userID, p)
}

func (f *serverUsersFake) Deactivate(ctx context.Context, userID string) (directory.User, error) {
	return f.changed(ctx, "Deactivate", userID)
}

func (f *serverUsersFake) Reactivate(ctx context.Context, userID string) (directory.User, error) {
	return f.changed(ctx, "Reactivate", userID)
}

func (f *serverUsersFake) Ban(ctx context.Context, userID string, b *directory.BanRequest) (directory.User, error) {
	return f.changed(ctx, "Ban", userID, b)
}

func (f *serverUsersFake) Unban(ctx context.Context, userID string) (directory.User, error) {
	return f.changed(ctx, "Unban", userID)
}

// auditFake is the audit log.
type auditFake keyedDomain

func (f *auditFake) List(ctx context.Context, filter audit.Filter) ([]audit.Recorded, bool, error) {
	err := (*keyedDomain)(f).add(ctx, "List", filter)
	keyID := keyID
	return []audit.Recorded{{
		ID: bob, At: someTime, Actor: audit.RecordedActor{KeyID: &keyID}, Action: "user.ban",
		Target: audit.RecordedTarget{Type: audit.TargetUser, ID: ada}, RequestID: "r1", IP: "192.0.2.1", Detail: []byte(`{}`),
	}}, f.more, err
}

// serverConversationsFake are the conversations of the server API. ext:room/1 is one of them. Calls of a user's methods panic.
type serverConversationsFake struct {
	conversations
	keyed *keyedDomain
}

func (f *serverConversationsFake) changed(ctx context.Context, name string, args ...any) (conversation.Keyed, error) {
	err := f.keyed.add(ctx, name, args...)
	return f.group(), err
}

func (*serverConversationsFake) group() conversation.Keyed {
	name := "Room"
	return conversation.Keyed{UpdatedAt: someTime, Conversation: &chat.Conversation{
		ID: room, Type: "group", Name: &name, Members: []chat.Member{}, Revision: 1, LastMessageAt: someTime, CreatedAt: someTime,
	}}
}

func (f *serverConversationsFake) ResolveByKey(_ context.Context, externalID string) (string, error) {
	if externalID != "room/1" {
		return "", conversation.ErrNotFound
	}
	return room, nil
}

func (f *serverConversationsFake) PutByKey(ctx context.Context, externalID string, g *conversation.Group) (conversation.Keyed, bool, error) {
	k, err := f.changed(ctx, "PutByKey", externalID, g)
	return k, f.keyed.created, err
}

func (f *serverConversationsFake) ListByKey(ctx context.Context, filter conversation.KeyedFilter) ([]conversation.Keyed, bool, error) {
	k, err := f.changed(ctx, "ListByKey", filter)
	return []conversation.Keyed{k}, f.keyed.more, err
}

func (f *serverConversationsFake) GetByKey(ctx context.Context, conversationID string) (conversation.Keyed, error) {
	return f.changed(ctx, "GetByKey", conversationID)
}

func (f *serverConversationsFake) UpdateByKey(ctx context.Context, conversationID string, p *conversation.Patch) (conversation.Keyed, error) {
	return f.changed(ctx, "UpdateByKey", conversationID, p)
}

func (f *serverConversationsFake) DeleteByKey(ctx context.Context, conversationID string) error {
	return f.keyed.add(ctx, "DeleteByKey", conversationID)
}

func (f *serverConversationsFake) AddByKey(ctx context.Context, conversationID string, members []conversation.KeyedMember) (conversation.Keyed, error) {
	return f.changed(ctx, "AddByKey", conversationID, members)
}

func (f *serverConversationsFake) RemoveByKey(ctx context.Context, conversationID string, userIDs []string) (conversation.Keyed, error) {
	return f.changed(ctx, "RemoveByKey", conversationID, userIDs)
}

// serverMessagesFake are the messages of the server API. Calls of a user's methods panic.
type serverMessagesFake struct {
	messages
	reactions
	typists
	sendQueue
	keyed *keyedDomain
}

func (f *serverMessagesFake) changed(ctx context.Context, name string, args ...any) (chat.Message, error) {
	err := f.keyed.add(ctx, name, args...)
	return chat.Message{ID: hello, ConversationID: room, Seq: 7, Revision: 9, SenderID: ada, Content: "hello", CreatedAt: someTime}, err
}

func (f *serverMessagesFake) SendByKey(ctx context.Context, conversationID string, how message.Sending, d *message.Draft) (chat.Message, bool, error) {
	m, err := f.changed(ctx, "SendByKey", conversationID, how, d)
	return m, f.keyed.repeated, err
}

func (f *serverMessagesFake) HistoryByKey(ctx context.Context, conversationID string, before *cursor.Position, limit int) (message.Page, error) {
	m, err := f.changed(ctx, "HistoryByKey", conversationID, before, limit)
	return message.Page{Messages: []chat.Message{m}, HasMore: f.keyed.more}, err
}

func (f *serverMessagesFake) AfterSeqByKey(ctx context.Context, conversationID string, seq int64, limit int) (message.Page, error) {
	m, err := f.changed(ctx, "AfterSeqByKey", conversationID, seq, limit)
	return message.Page{Messages: []chat.Message{m}, HasMore: f.keyed.more}, err
}

func (f *serverMessagesFake) GetByKey(ctx context.Context, messageID string) (chat.Message, error) {
	return f.changed(ctx, "GetByKey", messageID)
}

func (f *serverMessagesFake) EditByKey(ctx context.Context, messageID string, e *message.Edit) (chat.Message, error) {
	return f.changed(ctx, "EditByKey", messageID, e)
}

func (f *serverMessagesFake) DeleteByKey(ctx context.Context, messageID string) error {
	return f.keyed.add(ctx, "DeleteByKey", messageID)
}

// webhooksFake are the webhooks.
type webhooksFake keyedDomain

func (f *webhooksFake) changed(ctx context.Context, name string, args ...any) (webhook.Endpoint, error) {
	err := (*keyedDomain)(f).add(ctx, name, args...)
	return webhook.Endpoint{ID: idWebhook, Name: "hook", URL: "https://example.com/", Types: []string{"*"}, State: webhook.StateActive, CreatedAt: someTime}, err
}

func (f *webhooksFake) List(ctx context.Context) ([]webhook.Endpoint, error) {
	e, err := f.changed(ctx, "List")
	return []webhook.Endpoint{e}, err
}

func (f *webhooksFake) Create(ctx context.Context, d *webhook.Draft) (webhook.WithSecret, error) {
	e, err := f.changed(ctx, "Create", d)
	return webhook.WithSecret{Endpoint: e, Secret: "whsec_AAAA"}, err
}

func (f *webhooksFake) Get(ctx context.Context, endpointID string) (webhook.Endpoint, error) {
	return f.changed(ctx, "Get", endpointID)
}

func (f *webhooksFake) Update(ctx context.Context, endpointID string, c *webhook.Change) (webhook.Endpoint, error) {
	return f.changed(ctx, "Update", endpointID, c)
}

func (f *webhooksFake) Delete(ctx context.Context, endpointID string) error {
	return (*keyedDomain)(f).add(ctx, "Delete", endpointID)
}

func (f *webhooksFake) Rotate(ctx context.Context, endpointID string) (string, error) {
	return "whsec_BBBB", (*keyedDomain)(f).add(ctx, "Rotate", endpointID)
}

func (f *webhooksFake) Test(ctx context.Context, endpointID string) (webhook.Trial, error) {
	status := 204
	return webhook.Trial{Status: &status, DurationMS: 3}, (*keyedDomain)(f).add(ctx, "Test", endpointID)
}

func (f *webhooksFake) Replay(ctx context.Context, endpointID string, p *webhook.Period) (webhook.Replay, error) {
	err := (*keyedDomain)(f).add(ctx, "Replay", endpointID, p)
	only := room
	return webhook.Replay{ID: bob, From: p.From, Until: someTime, Conversation: &only, CreatedAt: someTime}, err
}

func (f *webhooksFake) Attempts(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]webhook.Attempt, bool, error) {
	err := (*keyedDomain)(f).add(ctx, "Attempts", endpointID, before, limit)
	return []webhook.Attempt{{ID: bob, Event: "evt", Type: "message.created", At: someTime, Error: "timeout"}}, f.more, err
}

func (f *webhooksFake) DeadEvents(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]webhook.Dead, bool, error) {
	err := (*keyedDomain)(f).add(ctx, "DeadEvents", endpointID, before, limit)
	return []webhook.Dead{{ID: bob, Event: "evt", Type: "message.created", At: someTime, Error: "timeout"}}, f.more, err
}

func (f *webhooksFake) Retry(ctx context.Context, endpointID, event string) error {
	return (*keyedDomain)(f).add(ctx, "Retry", endpointID, event)
}

func (f *webhooksFake) Forget(ctx context.Context, endpointID, event string) error {
	return (*keyedDomain)(f).add(ctx, "Forget", endpointID, event)
}
