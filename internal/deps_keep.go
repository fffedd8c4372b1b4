//go:build tools

package internal

import (
	_ "github.com/alexedwards/argon2id"
	_ "github.com/go-redis/redis_rate/v10"
	_ "github.com/gofiber/contrib/websocket"
	_ "github.com/gofiber/fiber/v2"
	_ "github.com/golang-jwt/jwt/v5"
	_ "github.com/hibiken/asynq"
	_ "github.com/santhosh-tekuri/jsonschema/v6"
	_ "github.com/spf13/viper"
	_ "github.com/swaggest/swgui/v5emb"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/time/rate"
	_ "go.yaml.in/yaml/v3"
	_ "github.com/fasthttp/websocket"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
)
