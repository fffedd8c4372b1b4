package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/tracing"
)

// syncer reads what a client missed.
type syncer interface {
	Sync(ctx context.Context, userID string, r *message.SyncRequest) (*message.SyncAnswer, error)
}

// typists checks whether users may type.
type typists interface {
	CanType(ctx context.Context, conversationID, userID string) error
}

// typingEvents publishes events. It must not block.
type typingEvents interface {
	Publish(events ...*event.Event)
}

// maxFrameID is the largest length of a client's id of a frame, in code points.
const maxFrameID = 64

// typingPause is the least time between two typing events of one socket while its user keeps typing.
const typingPause = 3 * time.Second

// syncMemory is the largest size of the messages in a response to a sync.
const syncMemory = 1 << 20

// reservePause is how often a frame tries again to reserve memory.
const reservePause = 50 * time.Millisecond

// command is a frame from a client.
type command struct {
	kind string
	id   string // the client's, "" if it needs no ack
	data json.RawMessage
}

var errBadFrame = errors.New("not a frame")

// parse reads a frame. It returns errBadFrame, which closes the socket, if the data is not a frame, and *invalid.Faults if its id is
// invalid, which gets an error response.
func parse(data []byte) (command, error) {
	members, err := jsonbody.Members(data)
	if err != nil {
		return command{}, errBadFrame
	}
	var c command
	c.data, _ = members.Get("data")
	kind, _ := members.Get("type")
	var ok bool
	if c.kind, ok = jsonbody.String(kind); !ok {
		return command{}, errBadFrame
	}
	if raw, given := members.Get("id"); given && string(raw) != "null" {
		if c.id, ok = jsonbody.String(raw); !ok || utf8.RuneCountInString(c.id) > maxFrameID {
			c.id = ""
			return c, invalid.One("id", "must be a string of at most %d characters", maxFrameID)
		}
	}
	return c, nil
}

// handle processes one frame and sends the response. It calls release if the next frame may be read before it returns.
func (r *reader) handle(data []byte, release func()) {
	c, err := parse(data)
	r.server.metrics.frames.WithLabelValues(kindLabel(c.kind)).Inc()
	if errors.Is(err, errBadFrame) {
		r.sends.await(0)
		r.session.Close(realtime.CloseBadFrame)
		return
	}
	if c.kind == kindSend {
		r.send(c, err, release)
		return
	}
	if !overtakes[c.kind] {
		r.sends.await(0)
	}
	if c.kind == "sync" {
		r.session.AwaitWritten()
		defer r.giveBack()
	}
	ctx, cancel := r.frameContext()
	defer cancel()
	ctx, span := r.trace(ctx, c)
	defer span.End()
	var answer any
	if err == nil {
		err = r.guarded(ctx, c, func() (err error) {
			answer, err = r.carryOut(ctx, c)
			return err
		})
	}
	switch {
	case errors.Is(err, errInternal): // the socket is being closed
	case err != nil:
		r.session.Reply(event.TypeError, c.id, r.problem(ctx, c, err))
	case c.kind == "ping":
		r.session.Reply(event.TypePong, c.id, nil)
	case c.id != "" && answer != nil:
		r.session.Reply(event.TypeAck, c.id, answer)
	}
}

// trace begins a frame's span, in a new trace.
func (r *reader) trace(ctx context.Context, c command) (context.Context, trace.Span) {
	if !r.server.Tracer.On() {
		return ctx, noop.Span{}
	}
	return r.server.Tracer.Server(ctx, "socket "+kindLabel(c.kind), "")
}

// guarded runs a part of the processing of a frame. A panic closes the socket and returns errInternal; the client's next sync shows whether
// the frame had an effect.
func (r *reader) guarded(ctx context.Context, c command, work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.server.panicked(ctx, partSocket, v)
			r.server.metrics.framesFailed.WithLabelValues(kindLabel(c.kind)).Inc()
			r.session.Close(realtime.CloseInternal)
			err = errInternal
		}
	}()
	fault.Point("socket.frame")
	return work()
}

func (r *reader) problem(ctx context.Context, c command, err error) problem {
	p := problemOf(err, r.request)
	if p.Status >= 500 {
		tracing.Failed(trace.SpanFromContext(ctx), err)
		r.server.metrics.framesFailed.WithLabelValues(kindLabel(c.kind)).Inc()
		if p.Status == http.StatusServiceUnavailable {
			r.server.Refusals.Fail(ctx, err, "type", kindLabel(c.kind))
		} else {
			r.server.Log.ErrorContext(ctx, "a frame failed", "type", kindLabel(c.kind), "error", err)
		}
	}
	return p
}

// kindSend is the type of the frames that are processed in a pipeline (pipeline.go).
const kindSend = "message:send"

// overtakes has the types of frames that don't wait for the sends before them. They concern messages that were committed earlier, or no messages
// at all. Other frames are processed after those sends were answered: a sync includes the sent messages, typing ends after them, and a
// pong means that they are stored.
var overtakes = map[string]bool{
	"message:read": true, "reaction:add": true, "reaction:remove": true, "presence:subscribe": true, "presence:unsubscribe": true, "auth": true,
}

// frames are the types of frames that clients send, with their handlers. A nil answer means no ack.
var frames = map[string]func(r *reader, ctx context.Context, c command) (any, error){
	kindSend:               nil, // reader.send
	"message:read":         func(r *reader, ctx context.Context, c command) (any, error) { return r.markRead(ctx, c.data) },
	"reaction:add":         func(r *reader, ctx context.Context, c command) (any, error) { return r.react(ctx, c.data, true) },
	"reaction:remove":      func(r *reader, ctx context.Context, c command) (any, error) { return r.react(ctx, c.data, false) },
	"typing:start":         func(r *reader, ctx context.Context, c command) (any, error) { return nil, r.startTyping(ctx, c.data) },
	"typing:stop":          func(r *reader, _ context.Context, c command) (any, error) { return nil, r.endTyping(c.data) },
	"presence:subscribe":   func(r *reader, ctx context.Context, c command) (any, error) { return nil, r.watch(ctx, c) },
	"presence:unsubscribe": func(r *reader, ctx context.Context, c command) (any, error) { return r.unwatch(ctx, c.data) },
	"sync":                 func(r *reader, ctx context.Context, c command) (any, error) { return r.sync(ctx, c.data) },
	"focus":                func(r *reader, ctx context.Context, c command) (any, error) { return r.focus(ctx, c.data) },
	"auth":                 func(r *reader, ctx context.Context, c command) (any, error) { return r.renew(ctx, c.data) },
	"ping":                 func(*reader, context.Context, command) (any, error) { return nil, nil },
}

// Further types of frames, for metrics.
const (
	kindUnknown      = "unknown"
	kindProtocolPing = "protocol_ping"
	kindProtocolPong = "protocol_pong"
)

// kindLabel returns the label of a type of frames. All types that are not defined share one label.
func kindLabel(kind string) string {
	if _, known := frames[kind]; known {
		return kind
	}
	return kindUnknown
}

// carryOut processes a frame. A nil answer means no ack.
func (r *reader) carryOut(ctx context.Context, c command) (any, error) {
	if f := frames[c.kind]; f != nil {
		return f(r, ctx, c)
	}
	return nil, errUnknownType
}

// sendData is the data of a message:send.
type sendData struct {
	ConversationID  string  `json:"conversationId"`
	Content         string  `json:"content"`
	ClientMessageID string  `json:"clientMessageId"`
	ReplyToID       *string `json:"replyToId,omitempty"`

	Metadata metadata.Object      `json:"metadata,omitempty"`
	Mentions *message.MentionList `json:"mentions,omitempty"`

	Attachments []string `json:"attachments,omitempty"`

	draft message.Draft // what Check made of it
}

// Check makes the draft of the data and notes its faults.
func (d *sendData) Check(f *invalid.Faults) {
	d.draft = message.Draft{
		Content: d.Content, ClientMessageID: &d.ClientMessageID, ReplyToID: d.ReplyToID, Metadata: d.Metadata, Mentions: d.Mentions,
		Attachments: d.Attachments,
	}
	d.draft.Check(f)
}

// decodeData reads a frame's data. All its errors are faults, so a frame with bad data gets an error response and does not close the socket.
func decodeData(data json.RawMessage, dst jsonbody.Checker) error {
	err := jsonbody.Decode(data, dst)
	if errors.Is(err, jsonbody.ErrMalformed) {
		return invalid.One("data", "must be an object")
	}
	return err
}

func (r *reader) sync(ctx context.Context, data json.RawMessage) (any, error) {
	var in message.SyncRequest
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	if err := r.server.guardSync(ctx, r.session.UserID, len(in.Conversations)); err != nil {
		return nil, err
	}
	if !r.server.syncs.begin(ctx) {
		return nil, errUnavailable
	}
	defer r.server.syncs.end()
	if !r.reserve(ctx, syncMemory) {
		return nil, errUnavailable
	}
	answer, err := r.server.Syncer.Sync(ctx, r.session.UserID, &in)
	if err == nil {
		r.server.chargeSync(ctx, r.session.UserID, answer)
	}
	return answer, err
}

// reserve charges memory for the present frame to its user's share, until giveBack. After that the outbox charges the response. If the share
// is used up by the user's other sockets, reserve waits. It returns false if ctx ended first.
func (r *reader) reserve(ctx context.Context, n int64) bool {
	for !r.server.Memory.Take("user:"+r.session.UserID, n) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(reservePause):
		}
	}
	r.reserved += n
	return true
}

func (r *reader) giveBack() {
	r.server.Memory.Give("user:"+r.session.UserID, r.reserved)
	r.reserved = 0
}

// conversationData is the data of frames that name only a conversation.
type conversationData struct {
	ConversationID string `json:"conversationId"`
}

// Check notes no faults: a malformed id is treated as unknown.
func (*conversationData) Check(*invalid.Faults) {}

func (r *reader) startTyping(ctx context.Context, data json.RawMessage) error {
	var in conversationData
	if err := decodeData(data, &in); err != nil {
		return err
	}
	if !id.Valid(in.ConversationID) {
		return message.ErrConversationNotFound
	}
	if time.Since(r.typing[in.ConversationID]) < typingPause {
		return nil
	}
	if !r.server.typing.allow(r.session.UserID, in.ConversationID, time.Now()) {
		return r.unlessServed(in.ConversationID)
	}
	if err := r.server.Messages.CanType(ctx, in.ConversationID, r.session.UserID); err != nil {
		return err
	}
	r.server.noteActive(nil, r.principal())
	if r.typing == nil {
		r.typing = map[string]time.Time{}
	}
	r.typing[in.ConversationID] = time.Now()
	r.publishTyping(in.ConversationID, true)
	return nil
}

// endTyping publishes the end of typing, if its start was published by this socket.
func (r *reader) endTyping(data json.RawMessage) error {
	var in conversationData
	if err := decodeData(data, &in); err != nil {
		return err
	}
	if _, was := r.typing[in.ConversationID]; was {
		delete(r.typing, in.ConversationID)
		r.publishTyping(in.ConversationID, false)
		return nil
	}
	return r.unlessServed(in.ConversationID)
}

// unlessServed returns ErrConversationNotFound for a frame without effect whose conversation is not one of the user's.
func (r *reader) unlessServed(conversationID string) error {
	if !r.session.Serves(conversationID) {
		return message.ErrConversationNotFound
	}
	return nil
}

// stopTyping ends the typing of this socket when the socket ends.
func (r *reader) stopTyping() {
	for c := range r.typing {
		r.publishTyping(c, false)
	}
}

func (r *reader) publishTyping(conversationID string, active bool) {
	r.server.Publisher.Publish(event.UserTyping(event.Typing{ConversationID: conversationID, UserID: r.session.UserID, Active: active}))
}
