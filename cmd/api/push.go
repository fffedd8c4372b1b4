package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/push"
)

const pushUsage = `usage: api push keys
`

// pushCommand prints a new pair of keys for web push.
func pushCommand(args []string) error {
	if len(args) != 1 || args[0] != "keys" {
		return usageOf(pushUsage)
	}
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	_, err = fmt.Fprintf(os.Stdout, "PARLEY_PUSH_VAPID_PRIVATE_KEY=%s\n# public key, which clients get from GET /api/push/config: %s\n",
		encode(key.Bytes()), encode(key.PublicKey().Bytes()))
	return err
}

// openPush makes the domain of devices and preferences.
func openPush(db *postgres.DB, c *config.API) (*push.Service, error) {
	served := push.Config{FCM: c.Push.FCM != nil}
	if c.Push.VAPIDPrivateKey != "" {
		public, err := push.PublicKey(c.Push.VAPIDPrivateKey)
		if err != nil {
			return nil, err
		}
		served.WebPush = &push.WebPushConfig{PublicKey: public}
	}
	hosts := push.DefaultHosts
	if c.Push.WebPushHosts != nil {
		hosts = c.Push.WebPushHosts
	}
	return push.NewService(db, served, hosts, &outbound.Guard{Allow: c.Webhooks.AllowCIDRs, Hosts: hosts.Exact()}), nil
}
