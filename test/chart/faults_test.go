package chart

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/strvals"
)

// external is the least that an installation with its own databases needs.
const external = "database.url=postgres://u:p@db/parley,redis.url=redis://r,jwt.secret=0123456789abcdef0123456789abcdef"

func TestFaults(t *testing.T) {
	const proxies = ",config.trustedProxies[0]=10.0.0.0/8"
	for name, c := range map[string]struct{ set, want string }{
		"nothing":                       {"", "the database: give exactly one of database.url, database.existingSecret.urlKey, database.host and devDependencies.enabled (there are 0)"},
		"no redis":                      {"", "redis: give exactly one of redis.url, redis.existingSecret.urlKey and devDependencies.enabled (there are 0)"},
		"no secret":                     {"", "jwt.secret or jwt.existingSecret is required"},
		"two databases":                 {external + ",database.host=db", "the database: give exactly one of"},
		"bundled and not":               {external + ",devDependencies.enabled=true", "(there are 2)"},
		"a secret without a key":        {"jwt.existingSecret.name=s", "jwt.existingSecret.name has no key beside it"},
		"a key without a secret":        {external + ",metricsToken.existingSecret.key=k", "metricsToken.existingSecret.name is missing"},
		"ingress without proxies":       {external + ",ingress.enabled=true", "config.trustedProxies is required with ingress and httpRoute"},
		"route without proxies":         {external + ",httpRoute.enabled=true,httpRoute.parentRefs[0].name=g", "config.trustedProxies is required"},
		"route without a gateway":       {external + ",httpRoute.enabled=true" + proxies, "httpRoute.parentRefs is required"},
		"metrics open to all":           {external + ",service.type=LoadBalancer", "metricsToken is required with service.type LoadBalancer"},
		"a public secret, outside":      {"devDependencies.enabled=true,ingress.enabled=true" + proxies, "everybody knows the one that devDependencies brings"},
		"migrations over pgbouncer":     {external + ",database.mode=pgbouncer", "database.migrateUrl or database.existingSecret.migrateUrlKey is required"},
		"a hook without a database":     {"devDependencies.enabled=true,migrations.mode=hook", "the hook runs before there is a database"},
		"a hook without a secret":       {external + ",migrations.mode=hook", "migrations.mode hook needs database.existingSecret"},
		"too little grace":              {external + ",api.terminationGracePeriodSeconds=30", "api.terminationGracePeriodSeconds must be 35 at least"},
		"a drain longer than a stop":    {external + ",api.drainDelaySeconds=25", "api.drainDelaySeconds must be shorter"},
		"fewer than few":                {external + ",autoscaling.enabled=true,autoscaling.maxReplicas=1", "autoscaling.minReplicas is more than autoscaling.maxReplicas"},
		"scaling on nothing":            {external + ",autoscaling.enabled=true,autoscaling.targetCPU=null", "autoscaling.targetCPU or autoscaling.targetSockets is required"},
		"keda without prometheus":       {external + ",autoscaling.enabled=true,autoscaling.kind=keda,autoscaling.targetSockets=5000", "autoscaling.keda.prometheus is required"},
		"an alert that is none":         {external + ",prometheusRule.disabled[0]=ParleyNoSuch", "prometheusRule names no alert of Parley's: ParleyNoSuch"},
		"an unknown value":              {external + ",api.replica=3", "additional properties 'replica' not allowed"},
		"an unknown setting":            {external + ",config.jwtSecret=x", "additional properties 'jwtSecret' not allowed"},
		"a short secret":                {external + ",jwt.secret=short", "at '/jwt/secret'"},
		"no rate":                       {external + ",config.rateLimitAuth=5", "at '/config/rateLimitAuth'"},
		"no duration":                   {external + ",config.presenceTtl=45", "at '/config/presenceTtl'"},
		"no URL":                        {external + ",database.url=db:5432", "at '/database/url'"},
		"no proxy":                      {external + ",config.trustedProxies[0]=proxy.example.com", "at '/config/trustedProxies/0'"},
		"no such mode":                  {external + ",migrations.mode=auto", "at '/migrations/mode'"},
		"a proxy of everybody":          {external + ",config.trustedProxies[0]=0.0.0.0/0", "config.trustedProxies has 0.0.0.0/0, which trusts everybody"},
		"a proxy of everybody by v6":    {external + ",config.trustedProxies[0]=::/0", "config.trustedProxies has ::/0, which trusts everybody"},
		"a misspelt setting":            {external + ",extraEnv[0].name=PARLEY_LOGLEVEL,extraEnv[0].value=debug", "extraEnv sets PARLEY_LOGLEVEL, which is no setting of Parley's"},
		"misspelt for one":              {external + ",receiptWorker.extraEnv[0].name=PARLEY_FLUSH,receiptWorker.extraEnv[0].value=1s", "receiptWorker.extraEnv sets PARLEY_FLUSH, which is no setting"},
		"the chart's own setting":       {external + ",api.extraEnv[0].name=PARLEY_HTTP_ADDR,api.extraEnv[0].value=:80", "api.extraEnv sets PARLEY_HTTP_ADDR, which the chart sets itself"},
		"a variable twice":              {external + ",extraEnv[0].name=A,extraEnv[1].name=A", "extraEnv sets A twice"},
		"capitals":                      {external + ",fullnameOverride=Chat", "at '/fullnameOverride'"},
		"an underscore":                 {external + ",nameOverride=my_chat", "at '/nameOverride'"},
		"a label of selectors":          {external + ",commonLabels.app\\.kubernetes\\.io/name=x", "commonLabels sets app.kubernetes.io/name, by which Services and policies find the pods"},
		"no label's value":              {external + ",api.podLabels.team=a b", `api.podLabels.team is "a b", which is no value of a label`},
		"a bundled password":            {"devDependencies.enabled=true,redis.password=x", "redis.password is not the bundled Redis's: set devDependencies.redis.password"},
		"postgres's, bundled":           {"devDependencies.enabled=true,database.password=x", "database.password is not the bundled Postgres's: set devDependencies.postgres.password"},
		"sentinels, bundled":            {"devDependencies.enabled=true,redis.sentinelMaster=m", "redis.sentinelMaster cannot be used with devDependencies"},
		"two JWT secrets":               {external + ",jwt.existingSecret.name=s,jwt.existingSecret.key=k", "jwt.secret and jwt.existingSecret.key are both set: leave out one"},
		"two passwords":                 {external + ",redis.password=x,redis.existingSecret.name=s,redis.existingSecret.passwordKey=k", "redis.password and redis.existingSecret.passwordKey are both set"},
		"a host with a port":            {"database.host=db:5432", "database.host holds a port: set database.port"},
		"an image with a tag":           {external + ",image.repository=parley:dev", "at '/image/repository'"},
		"no tag":                        {external + ",image.tag=a b", "at '/image/tag'"},
		"a host that is a URL":          {external + ",ingress.hosts[0]=https://chat.example.com", "at '/ingress/hosts/0'"},
		"no quantity":                   {external + ",api.resources.requests.cpu=lots", "at '/api/resources/requests/cpu'"},
		"a budget of none":              {external + ",api.podDisruptionBudget.maxUnavailable=0", "at '/api/podDisruptionBudget/maxUnavailable'"},
		"a pull secret by its name":     {external + ",image.pullSecrets[0]=regcred", "at '/image/pullSecrets/0'"},
		"a toleration's typing":         {external + ",tolerations[0].efect=NoSchedule", "at '/tolerations/0'"},
		"a class without a balancer":    {external + ",service.loadBalancerClass=x", "service.loadBalancerClass needs service.type LoadBalancer"},
		"scraped twice":                 {external + ",podMonitor.enabled=true,serviceMonitor.enabled=true", "podMonitor and serviceMonitor are both enabled"},
		"two authorities":               {external + ",trustedCA.secret=a,trustedCA.configMap=b", "trustedCA.secret and trustedCA.configMap are both set"},
		"a wait past the deadline":      {external + ",verify.waitSeconds=300", "verify.waitSeconds must be less than verify.activeDeadlineSeconds"},
		"recreate and roll":             {external + ",api.strategy.type=Recreate,api.strategy.rollingUpdate.maxSurge=1", "api.strategy has rollingUpdate beside type Recreate"},
		"a PodMonitor's interval":       {external + ",podMonitor.interval=30", "at '/podMonitor/interval'"},
		"an alert's for":                {external + ",prometheusRule.overrides.ParleyRedisDown.for=5", "at '/prometheusRule/overrides/ParleyRedisDown/for'"},
		"a dispatcher without a key":    {external + ",dispatcher.enabled=true", "secretsKey.value or secretsKey.existingSecret is required with dispatcher.enabled"},
		"a dispatcher's scaling":        {external + ",dispatcher.enabled=true,dispatcher.autoscaling.enabled=true,dispatcher.autoscaling.maxReplicas=1", "dispatcher.autoscaling.minReplicas is more than dispatcher.autoscaling.maxReplicas"},
		"a misspelt dispatcher":         {external + ",dispatcher.replica=3", "additional properties 'replica' not allowed"},
		"a VAPID key without a subject": {external + ",secretsKey.value=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=,dispatcher.enabled=true,push.vapid.existingSecret.name=s,push.vapid.existingSecret.key=k", "push.vapid needs config.pushVapidSubject"},
		"pushes without a dispatcher":   {external + ",push.fcm.existingSecret.name=s,push.fcm.existingSecret.key=k", "push needs dispatcher.enabled"},
		"a short VAPID key":             {external + ",push.vapid.privateKey=abc", "at '/push/vapid/privateKey'"},
		"a short secrets key":           {external + ",secretsKey.value=c2hvcnQ=", "at '/secretsKey/value'"},
		"two secrets keys":              {external + ",secretsKey.value=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=,secretsKey.existingSecret.name=s,secretsKey.existingSecret.key=k", "secretsKey.value and secretsKey.existingSecret.key are both set"},
		"a runbook base":                {external + ",prometheusRule.runbookBaseURL=wiki", "at '/prometheusRule/runbookBaseURL'"},
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
