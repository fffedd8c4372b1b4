package chart

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/strvals"
)

// external is the least that an installation with databases of one's own needs.
const external = "database.url=postgres://u:p@db/parley,redis.url=redis://r,jwt.secret=0123456789abcdef0123456789abcdef"

func TestFaults(t *testing.T) {
	const proxies = ",config.trustedProxies[0]=10.0.0.0/8"
	for name, c := range map[string]struct{ set, want string }{
		"nothing":                    {"", "the database: give exactly one of database.url, database.existingSecret.urlKey, database.host and devDependencies.enabled (there are 0)"},
		"no redis":                   {"", "redis: give exactly one of redis.url, redis.existingSecret.urlKey and devDependencies.enabled (there are 0)"},
		"no secret":                  {"", "jwt.secret or jwt.existingSecret is required"},
		"two databases":              {external + ",database.host=db", "the database: give exactly one of"},
		"bundled and not":            {external + ",devDependencies.enabled=true", "(there are 2)"},
		"a secret without a key":     {"jwt.existingSecret.name=s", "jwt.existingSecret.name has no key beside it"},
		"a key without a secret":     {external + ",metricsToken.existingSecret.key=k", "metricsToken.existingSecret.name is missing"},
		"ingress without proxies":    {external + ",ingress.enabled=true", "config.trustedProxies is required with ingress and httpRoute"},
		"route without proxies":      {external + ",httpRoute.enabled=true,httpRoute.parentRefs[0].name=g", "config.trustedProxies is required"},
		"route without a gateway":    {external + ",httpRoute.enabled=true" + proxies, "httpRoute.parentRefs is required"},
		"metrics open to all":        {external + ",service.type=LoadBalancer", "metricsToken is required with service.type LoadBalancer"},
		"a public secret, outside":   {"devDependencies.enabled=true,ingress.enabled=true" + proxies, "everybody knows the one that devDependencies brings"},
		"migrations over pgbouncer":  {external + ",database.mode=pgbouncer", "database.migrateUrl or database.existingSecret.migrateUrlKey is required"},
		"a hook without a database":  {"devDependencies.enabled=true,migrations.mode=hook", "the hook runs before there is a database"},
		"a hook without a secret":    {external + ",migrations.mode=hook", "migrations.mode hook needs database.existingSecret"},
		"too little grace":           {external + ",api.terminationGracePeriodSeconds=30", "api.terminationGracePeriodSeconds must be 35 at least"},
		"a drain longer than a stop": {external + ",api.drainDelaySeconds=25", "api.drainDelaySeconds must be shorter"},
		"fewer than few":             {external + ",autoscaling.enabled=true,autoscaling.maxReplicas=1", "autoscaling.minReplicas is more than autoscaling.maxReplicas"},
		"scaling on nothing":         {external + ",autoscaling.enabled=true,autoscaling.targetCPU=null", "autoscaling.targetCPU or autoscaling.targetSockets is required"},
		"keda without prometheus":    {external + ",autoscaling.enabled=true,autoscaling.kind=keda,autoscaling.targetSockets=5000", "autoscaling.keda.prometheus is required"},
		"an alert that is none":      {external + ",prometheusRule.disabled[0]=ParleyNoSuch", "prometheusRule names no alert of Parley's: ParleyNoSuch"},
		"an unknown value":           {external + ",api.replica=3", "additional properties 'replica' not allowed"},
		"an unknown setting":         {external + ",config.jwtSecret=x", "additional properties 'jwtSecret' not allowed"},
		"a short secret":             {external + ",jwt.secret=short", "at '/jwt/secret'"},
		"no rate":                    {external + ",config.rateLimitAuth=5", "at '/config/rateLimitAuth'"},
		"no duration":                {external + ",config.presenceTtl=45", "at '/config/presenceTtl'"},
		"no URL":                     {external + ",database.url=db:5432", "at '/database/url'"},
		"no proxy":                   {external + ",config.trustedProxies[0]=proxy.example.com", "at '/config/trustedProxies/0'"},
		"no such mode":               {external + ",migrations.mode=auto", "at '/migrations/mode'"},
	} {
		values, err := strvals.Parse(c.set)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	values, err := strvals.Parse(external)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := render(t, values); err != nil {
		t.Errorf("without a fault: %v", err)
	}
}

// A Job cannot be changed: whatever changes its spec has to change its name, and nothing else may.
func TestTheJobsNameIsItsSpecs(t *testing.T) {
	job := func(set string) (name, spec string) {
		values, err := strvals.Parse(external + set)
		if err != nil {
			t.Fatal(err)
		}
		files, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(files["parley/templates/migrate.yaml"], "kind: Job")
		head, spec, _ := strings.Cut(text, "\nspec:\n")
		_, name, _ = strings.Cut(head, "name: ")
		name, _, _ = strings.Cut(name, "\n")
		return name, spec
	}
	unchanged, _ := job("")
	names := map[string]string{}
	for _, set := range []string{
		"", ",image.tag=v2", ",migrations.activeDeadlineSeconds=5", ",extraEnv[0].name=A,extraEnv[0].value=b", ",database.url=postgres://other",
		",migrations.podAnnotations.try=second", ",commonLabels.a=b", ",image.pullSecrets[0].name=s",
	} {
		name, spec := job(set)
		if other, ok := names[name]; ok {
			t.Errorf("%q and %q have the same name %s", set, other, name)
		}
		names[name] = set
		if len(name) > 63 || spec == "" {
			t.Errorf("name %q, spec %q", name, spec)
		}
	}
	for _, set := range []string{",api.replicas=5", ",config.logLevel=debug", ",ingress.hosts[0]=x", ",podMonitor.enabled=true"} {
		if name, _ := job(set); name != unchanged {
			t.Errorf("%q changes the Job", set)
		}
	}
}
