package push

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/outbound"
)

// FCMConfig has the service account and the URLs for Firebase Cloud Messaging.
type FCMConfig struct {
	ProjectID, ClientEmail, KeyID string
	Key                           *rsa.PrivateKey
	// TokenURI is where the service account gets access tokens, Endpoint the URL of the HTTP v1 API without its path.
	TokenURI, Endpoint string
}

// fcm sends pushes with FCM's HTTP v1 API.
type fcm struct {
	FCMConfig
	client *http.Client

	mu    sync.Mutex // guards the following fields, and is held while a token is requested
	token string
	until time.Time // until when token is used
	// failed is the result of the last request for a token, if it failed. Until failedUntil all pushes fail with it.
	failed      answer
	failedUntil time.Time
}

const (
	fcmScope = "https://www.googleapis.com/auth/firebase.messaging"
	// tokenLife is the requested lifetime of an access token, tokenMargin how long before its end it is replaced, and tokenPause the
	// pause after a failed request for one.
	tokenLife   = time.Hour
	tokenMargin = time.Minute
	tokenPause  = time.Second
	maxTokenLen = 64 << 10
)

// NewFCM makes the provider for FCM. The guard must allow the hosts of TokenURI and Endpoint.
func NewFCM(c FCMConfig, guard *outbound.Guard) Provider {
	return &fcm{FCMConfig: c, client: guard.Client(SendTimeout, perLane)}
}

// send sends a push. If the access token is refused, it is replaced once.
func (f *fcm) send(ctx context.Context, p *parcel) answer {
	a := f.try(ctx, p)
	if a.status == http.StatusUnauthorized {
		f.mu.Lock()
		f.until = time.Time{}
		f.mu.Unlock()
		a = f.try(ctx, p)
	}
	return a
}

func (f *fcm) try(ctx context.Context, p *parcel) answer {
	token, a := f.accessToken(ctx)
	if token == "" {
		return a
	}
	body, err := encode(fcmBody(p))
	if err != nil {
		return answer{err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.Endpoint+"/v1/projects/"+url.PathEscape(f.ProjectID)+"/messages:send", bytes.NewReader(body))
	if err != nil {
		return answer{err: errors.New("the endpoint cannot be requested")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	return answerOf(f.client.Do(req)) //nolint:bodyclose // answerOf closes it
}

// accessToken returns a valid access token, or "" with the result of the failed request for one. That result never has a status, whatever
// the token's server responded: the push is tried again, because a failed token says nothing about the device.
func (f *fcm) accessToken(ctx context.Context) (string, answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(f.until) {
		return f.token, answer{}
	}
	now := time.Now()
	if now.Before(f.failedUntil) {
		return "", f.failed
	}
	token, ttl, a := f.fetchToken(ctx, now)
	if token == "" {
		f.failed, f.failedUntil = a, time.Now().Add(tokenPause)
		return "", a
	}
	f.token, f.until = token, now.Add(ttl-tokenMargin)
	return token, answer{}
}

// fetchToken requests a token. ttl is its lifetime.
func (f *fcm) fetchToken(ctx context.Context, now time.Time) (token string, ttl time.Duration, a answer) {
	claims := jwt.MapClaims{"iss": f.ClientEmail, "scope": fcmScope, "aud": f.TokenURI, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix()}
	assertion := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	if f.KeyID != "" {
		assertion.Header["kid"] = f.KeyID
	}
	signed, err := assertion.SignedString(f.Key)
	if err != nil {
		return "", 0, answer{err: fmt.Errorf("sign for a token: %w", err)}
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {signed}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.TokenURI, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, answer{err: errors.New("token_uri cannot be requested")}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := f.client.Do(req) //nolint:bodyclose // Drain closes it
	if err != nil {
		return "", 0, answer{err: outbound.Plain(err)}
	}
	defer outbound.Drain(res)
	var got struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxTokenLen)).Decode(&got); err != nil || res.StatusCode != http.StatusOK || got.AccessToken == "" {
		return "", 0, answer{err: fmt.Errorf("token_uri answered %d", res.StatusCode), after: outbound.RetryAfter(res.Header.Get("Retry-After"))}
	}
	return got.AccessToken, min(time.Duration(got.ExpiresIn)*time.Second, tokenLife), answer{}
}

// fcmBody returns the request that sends a push: data has the push's members as strings, for the app, and notification is what Android and
// iOS show while the app is not running.
func fcmBody(p *parcel) any {
	unread, _ := json.Marshal(p.push.Unread) // two numbers
	data := map[string]string{
		"v": strconv.Itoa(p.push.V), "type": p.push.Type, "conversationId": p.push.ConversationID, "messageId": p.push.MessageID,
		"seq": strconv.FormatInt(p.push.Seq, 10), "title": p.push.Title, "count": strconv.FormatInt(p.push.Count, 10), "unread": string(unread),
	}
	notification := map[string]string{"title": p.push.Title}
	if p.push.Body != "" {
		data["body"], notification["body"] = p.push.Body, p.push.Body
	}
	priority, apnsPriority := "NORMAL", "5"
	if p.urgent {
		priority, apnsPriority = "HIGH", "10"
	}
	seconds := strconv.Itoa(int(keepFor.Seconds()))
	return map[string]any{"message": map[string]any{
		"token": p.address, "data": data, "notification": notification,
		"android": map[string]any{
			"collapse_key": p.push.ConversationID, "priority": priority, "ttl": seconds + "s", "notification": map[string]any{"tag": p.push.ConversationID},
		},
		"apns": map[string]any{
			"headers": map[string]string{
				"apns-collapse-id": p.push.ConversationID, "apns-priority": apnsPriority, "apns-expiration": strconv.FormatInt(time.Now().Add(keepFor).Unix(), 10),
			},
			"payload": map[string]any{"aps": map[string]any{"badge": p.push.Unread.Messages, "thread-id": p.push.ConversationID, "mutable-content": 1}},
		},
	}}
}
