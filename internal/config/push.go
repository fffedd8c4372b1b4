package config

import (
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Push are the settings of pushes.
type Push struct {
	// VAPIDPrivateKey is 32 bytes in base64url, "" if there is no web push. VAPIDSubject is a mailto: or https: URL.
	VAPIDPrivateKey, VAPIDSubject string
	// WebPushHosts are the hosts that subscriptions may have, nil for the default.
	WebPushHosts []string
	// FCM is nil if there is none.
	FCM *FCMAccount
	// FCMEndpoint is the URL of FCM's HTTP v1 API, without its path.
	FCMEndpoint string
	// Delay is how long after its commit a message is decided on.
	Delay time.Duration
	// NoContent is set if no push shows text.
	NoContent bool
}

// FCMAccount is a service account of Google's.
type FCMAccount struct {
	ProjectID, ClientEmail, KeyID, TokenURI string
	Key                                     *rsa.PrivateKey
}

var pushSettings = []string{
	"PUSH_VAPID_PRIVATE_KEY", "PUSH_VAPID_SUBJECT", "PUSH_WEBPUSH_HOSTS", "PUSH_FCM_CREDENTIALS", "PUSH_FCM_ENDPOINT", "PUSH_DELAY", "PUSH_CONTENT",
}

func (r *reader) push() Push {
	p := Push{
		VAPIDPrivateKey: r.vapidKey("PUSH_VAPID_PRIVATE_KEY"), VAPIDSubject: r.text("PUSH_VAPID_SUBJECT", ""),
		WebPushHosts: r.hosts("PUSH_WEBPUSH_HOSTS"), FCM: r.fcmAccount("PUSH_FCM_CREDENTIALS"),
		FCMEndpoint: strings.TrimRight(r.text("PUSH_FCM_ENDPOINT", "https://fcm.googleapis.com"), "/"),
		Delay:       r.duration("PUSH_DELAY", 5*time.Second, 0),
		NoContent:   r.choice("PUSH_CONTENT", "full", "full", "none") == "none",
	}
	if p.VAPIDSubject != "" && !strings.HasPrefix(p.VAPIDSubject, "mailto:") && !strings.HasPrefix(p.VAPIDSubject, "https://") {
		r.fault("PUSH_VAPID_SUBJECT", "must be a mailto: or https: URL by which the push services can reach you")
	}
	if p.VAPIDPrivateKey != "" && p.VAPIDSubject == "" {
		r.fault("PUSH_VAPID_SUBJECT", "is required with %sPUSH_VAPID_PRIVATE_KEY", prefix)
	}
	if !strings.HasPrefix(p.FCMEndpoint, "https://") && !strings.HasPrefix(p.FCMEndpoint, "http://") {
		r.fault("PUSH_FCM_ENDPOINT", "must be an http or https URL")
	}
	return p
}

func (r *reader) vapidKey(name string) string {
	s := r.text(name, "")
	if s == "" {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err == nil {
		_, err = ecdh.P256().NewPrivateKey(raw)
	}
	if err != nil {
		r.fault(name, "must be a private key on the curve P-256: 32 bytes in base64url, as api push keys prints it")
	}
	return strings.TrimRight(s, "=")
}

var hostRule = regexp.MustCompile(`^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)

func (r *reader) hosts(name string) []string {
	list := r.list(name)
	for i, h := range list {
		list[i] = strings.ToLower(h)
		if _, err := netip.ParseAddr(h); err != nil && !hostRule.MatchString(list[i]) {
			r.fault(name, "must hold hosts, or *.domain, without port or path")
			return nil
		}
	}
	return list
}

func (r *reader) fcmAccount(name string) *FCMAccount {
	s := r.text(name, "")
	if s == "" {
		return nil
	}
	var in struct {
		ProjectID  string `json:"project_id"`
		Email      string `json:"client_email"`
		KeyID      string `json:"private_key_id"`
		PrivateKey string `json:"private_key"`
		TokenURI   string `json:"token_uri"`
	}
	if err := json.Unmarshal([]byte(s), &in); err != nil || in.ProjectID == "" || in.Email == "" || in.TokenURI == "" {
		r.fault(name, "must be the JSON of a service account, with project_id, client_email, private_key and token_uri")
		return nil
	}
	key := rsaKey([]byte(in.PrivateKey))
	if key == nil {
		r.fault(name, "must have a private_key of RSA in PEM")
		return nil
	}
	return &FCMAccount{ProjectID: in.ProjectID, ClientEmail: in.Email, KeyID: in.KeyID, TokenURI: in.TokenURI, Key: key}
}

// rsaKey reads a private key of PKCS #8 or #1 in PEM, nil if it is none.
func rsaKey(b []byte) *rsa.PrivateKey {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	key, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
	rsaKey, _ := key.(*rsa.PrivateKey)
	return rsaKey
}
