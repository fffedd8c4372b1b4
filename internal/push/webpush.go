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

// keepFor is how long a provider keeps a push for a device that is away.
const keepFor = 24 * time.Hour

// recordSize is that of the encrypted record, which is padded to it so that its length reveals nothing. The longest push fits in.
const recordSize = 4096

// webPush sends by web push (RFC 8030, 8291, 8292).
type webPush struct {
	client                   *http.Client
	subject, private, public string
}

// NewWebPush makes the provider of web push. The private key is 32 bytes in base64url, subject a mailto: or https: URL.
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
	// The library writes its padding behind the payload, into what capacity it has left.
	res, err := webpush.SendNotificationWithContext(ctx, slices.Clip(p.payload), &webpush.Subscription{
		Endpoint: p.address, Keys: webpush.Keys{P256dh: p.p256dh, Auth: p.auth},
	}, &webpush.Options{
		HTTPClient: w.client, RecordSize: recordSize, Subscriber: w.subject, VAPIDPublicKey: w.public, VAPIDPrivateKey: w.private,
		Topic: strings.ReplaceAll(p.push.ConversationID, "-", ""), TTL: int(keepFor.Seconds()), Urgency: urgency,
	})
	return answerOf(res, err)
}

// answerOf reads a response, which it closes.
func answerOf(res *http.Response, err error) answer {
	if err != nil {
		return answer{err: outbound.Plain(err)}
	}
	outbound.Drain(res)
	return answer{status: res.StatusCode, after: outbound.RetryAfter(res.Header.Get("Retry-After"))}
}
