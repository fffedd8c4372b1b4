package push

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"github.com/parley-chat/parley/internal/outbound"
)

// keepFor is how long a provider keeps a push for a device that is offline.
const keepFor = 24 * time.Hour

// recordSize is the size of the encrypted record in bytes. Every push is padded to it, so that the length reveals nothing. The longest
// push fits in.
const recordSize = 4096

// webPush sends pushes with web push (RFC 8030, 8291, 8292).
type webPush struct {
	client                   *http.Client
	subject, private, public string
}

// NewWebPush makes the provider for web push. private is 32 bytes in base64url, subject a mailto: or https: URL.
func NewWebPush(private, subject string, guard *outbound.Guard) (Provider, error) {
	public, err := PublicKey(private)
	if err != nil {
		return nil, err
	}
	// The library always adds mailto:, even to a subject that has it already.
	return &webPush{client: guard.Client(SendTimeout, perLane), subject: strings.TrimPrefix(subject, "mailto:"), private: private, public: public}, nil
}

func (w *webPush) send(ctx context.Context, p *parcel) answer {
	urgency := webpush.UrgencyNormal
	if p.urgent {
		urgency = webpush.UrgencyHigh
	}
	// The library appends its padding to the payload, which would overwrite bytes that share the slice's spare capacity.
	res, err := webpush.SendNotificationWithContext(ctx, slices.Clip(p.payload), &webpush.Subscription{ //nolint:bodyclose // answerOf closes it
		Endpoint: p.address, Keys: webpush.Keys{P256dh: p.p256dh, Auth: p.auth},
	}, &webpush.Options{
		HTTPClient: w.client, RecordSize: recordSize, Subscriber: w.subject, VAPIDPublicKey: w.public, VAPIDPrivateKey: w.private,
		Topic: strings.ReplaceAll(p.push.ConversationID, "-", ""), TTL: int(keepFor.Seconds()), Urgency: urgency,
	})
	return answerOf(res, err)
}

// answerOf converts a response, and closes it.
func answerOf(res *http.Response, err error) answer {
	if err != nil {
		return answer{err: outbound.Plain(err)}
	}
	outbound.Drain(res)
	return answer{status: res.StatusCode, after: outbound.RetryAfter(res.Header.Get("Retry-After"))}
}
