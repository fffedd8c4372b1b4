package config_test

import (
	"fmt"
	"os"

	"github.com/parley-chat/parley/internal/config"
)

// All faults are in one error, without the values of secrets.
func ExampleLoadAPI() {
	for name, value := range map[string]string{
		"PARLEY_DATABASE_URL":     "postgres://parley@db/parley",
		"PARLEY_REDIS_URL":        "redis://redis",
		"PARLEY_JWT_SECRET":       "too-short",
		"PARLEY_RATE_LIMIT_SEND":  "many",
		"PARLEY_ACCESS_TOKEN_TTL": "soon",
	} {
		_ = os.Setenv(name, value)
		defer func() { _ = os.Unsetenv(name) }()
	}
	_, err := config.LoadAPI()
	fmt.Println(config.IsFault(err))
	fmt.Println(err)
	// Output:
	// true
	// the settings are wrong:
	//   - PARLEY_JWT_SECRET must have at least 32 bytes in each secret; number 1 has 9
	//   - PARLEY_ACCESS_TOKEN_TTL must be a duration of at least 1s, such as 15m0s
	//   - PARLEY_RATE_LIMIT_SEND must be off or a count and a window, such as 120/1m
}
