package test

import "testing"

// call holds each answer against the OpenAPI document; what matters here is that it has met them.
func TestHealthMetricsAndDocsAreAsDescribed(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	for path, status := range map[string]int{
		"/api/health":                200,
		"/api/health/ready":          200,
		"/api/metrics":               200,
		"/api/docs":                  200,
		"/api/docs/openapi.json":     200,
		"/api/docs/asyncapi.json":    200,
		"/api/docs/frames":           200,
		"/api/docs/frames.css":       200,
		"/api/docs/swagger-ui.css":   200,
		"/api/docs/nothing.js":       404,
		"/api/docs/nothing/at/all":   404,
		"/api/nowhere":               404,
		"/api/users/me":              401,
		"/api/conversations/nothing": 401,
		"/api/ws":                    426,
	} {
		p.want(t, status, "", "GET", path, nil)
		if path != "/api/ws" {
			p.want(t, status, "", "HEAD", path, nil)
		}
	}
	p.want(t, 405, "", "POST", "/api/health", map[string]any{})
	p.want(t, 405, "", "PUT", "/api/auth/login", map[string]any{})
}
