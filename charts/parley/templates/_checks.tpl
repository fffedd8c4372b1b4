{{/* Checks that the schema cannot express: values that contradict each other. All faults are in one message. */}}
{{- define "parley.checks" -}}
{{- $faults := list -}}
{{- $v := .Values -}}
{{- $dev := $v.devDependencies.enabled -}}
{{- $db := $v.database -}}
{{- $n := 0 -}}
{{- range list $db.url $db.existingSecret.urlKey $db.host $dev -}}{{- if . -}}{{- $n = add1 $n -}}{{- end -}}{{- end -}}
{{- if ne (int $n) 1 -}}
{{- $faults = append $faults (printf "the database: give exactly one of database.url, database.existingSecret.urlKey, database.host and devDependencies.enabled (there are %d)" (int $n)) -}}
{{- end -}}
{{- $n = 0 -}}
{{- range list $v.redis.url $v.redis.existingSecret.urlKey $dev -}}{{- if . -}}{{- $n = add1 $n -}}{{- end -}}{{- end -}}
{{- if ne (int $n) 1 -}}
{{- $faults = append $faults (printf "redis: give exactly one of redis.url, redis.existingSecret.urlKey and devDependencies.enabled (there are %d)" (int $n)) -}}
{{- end -}}
{{- $existing := dict "database" $db.existingSecret "redis" $v.redis.existingSecret "storage" $v.storage.existingSecret -}}
{{- range $path, $setting := include "parley.secretSettings" . | fromYaml -}}
{{- $_ := set $existing $path (include "parley.at" (list $ $path) | fromYaml).existingSecret -}}
{{- end -}}
{{- range $where, $secret := $existing -}}
{{- $keys := values (omit $secret "name") | join "" -}}
{{- if and $secret.name (not $keys) -}}{{- $faults = append $faults (printf "%s.existingSecret.name has no key beside it" $where) -}}{{- end -}}
{{- if and $keys (not $secret.name) -}}{{- $faults = append $faults (printf "%s.existingSecret.name is missing: its keys are set" $where) -}}{{- end -}}
{{- end -}}
{{- if and $v.storage.endpoint (not $v.storage.bucket) -}}{{- $faults = append $faults "storage.bucket is required with storage.endpoint" -}}{{- end -}}
{{- if and (not $v.storage.endpoint) (or $v.storage.bucket (and $v.storage.publicEndpoint (not $dev)) $v.storage.accessKey $v.storage.existingSecret.name) -}}
{{- $faults = append $faults "storage.endpoint is required with the other values of storage" -}}
{{- end -}}
{{- if ne (empty $v.storage.accessKey) (empty $v.storage.secretKey) -}}{{- $faults = append $faults "storage.accessKey and storage.secretKey go together" -}}{{- end -}}
{{- $outside := or $v.ingress.enabled $v.httpRoute.enabled (ne $v.service.type "ClusterIP") -}}
{{- $ownJwt := or $v.jwt.secret $v.jwt.existingSecret.name -}}
{{- if and (not $ownJwt) (not $dev) -}}
{{- $faults = append $faults "jwt.secret or jwt.existingSecret is required: openssl rand -hex 32 makes one" -}}
{{- end -}}
{{- if and (not $ownJwt) $dev $outside -}}
{{- $faults = append $faults "jwt.secret or jwt.existingSecret is required with ingress, httpRoute or a service.type that is open to the outside: everybody knows the one that devDependencies brings" -}}
{{- end -}}
{{- if and (or $v.ingress.enabled $v.httpRoute.enabled) (not $v.config.trustedProxies) -}}
{{- $faults = append $faults "config.trustedProxies is required with ingress and httpRoute: without it all clients share the proxy's address, and with it one limit of logins. Name the addresses that the proxy's pods have, such as 10.0.0.0/8" -}}
{{- end -}}
{{- if and (ne $v.service.type "ClusterIP") (not $v.metricsToken.value) (not $v.metricsToken.existingSecret.name) -}}
{{- $faults = append $faults (printf "metricsToken is required with service.type %s: /api/metrics would be open to the outside" $v.service.type) -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- $faults = append $faults "httpRoute.parentRefs is required with httpRoute.enabled" -}}
{{- end -}}
{{- if and (eq $db.mode "pgbouncer") (ne $v.migrations.mode "none") (not $db.migrateUrl) (not $db.existingSecret.migrateUrlKey) -}}
{{- $faults = append $faults "database.migrateUrl or database.existingSecret.migrateUrlKey is required with database.mode pgbouncer: migrations need a session of their own" -}}
{{- end -}}
{{- if eq $v.migrations.mode "hook" -}}
{{- if $dev -}}
{{- $faults = append $faults "migrations.mode hook cannot be used with devDependencies: the hook runs before there is a database" -}}
{{- else if or $db.url $db.password $db.migrateUrl -}}
{{- $faults = append $faults "migrations.mode hook needs database.existingSecret: the hook runs before there is the chart's own Secret" -}}
{{- end -}}
{{- end -}}
{{- $least := add $v.api.preStopSleepSeconds $v.api.shutdownTimeoutSeconds 5 -}}
{{- if and $v.api.terminationGracePeriodSeconds (lt (int $v.api.terminationGracePeriodSeconds) (int $least)) -}}
{{- $faults = append $faults (printf "api.terminationGracePeriodSeconds must be %d at least: preStopSleepSeconds + shutdownTimeoutSeconds + 5" (int $least)) -}}
{{- end -}}
{{- if ge (int $v.api.drainDelaySeconds) (int $v.api.shutdownTimeoutSeconds) -}}
{{- $faults = append $faults "api.drainDelaySeconds must be shorter than api.shutdownTimeoutSeconds, of which it is a part" -}}
{{- end -}}
{{- with $v.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}{{- $faults = append $faults "autoscaling.minReplicas is more than autoscaling.maxReplicas" -}}{{- end -}}
{{- if not (or .targetCPU .targetSockets) -}}{{- $faults = append $faults "autoscaling.targetCPU or autoscaling.targetSockets is required with autoscaling.enabled" -}}{{- end -}}
{{- if and (eq .kind "keda") .targetSockets (not .keda.prometheus) -}}{{- $faults = append $faults "autoscaling.keda.prometheus is required with autoscaling.kind keda and targetSockets" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $alerts := include "parley.alertNames" . | fromYamlArray -}}
{{- range concat $v.prometheusRule.disabled (keys $v.prometheusRule.overrides) | sortAlpha -}}
{{- if not (has . $alerts) -}}{{- $faults = append $faults (printf "prometheusRule names no alert of Parley's: %s (there are %s)" . (join ", " $alerts)) -}}{{- end -}}
{{- end -}}
{{- range list "devDependencies" "secrets" "environment" "pods" "network" "dispatcher" -}}
{{- $faults = concat $faults (include (printf "parley.checks.%s" .) $ | fromYamlArray) -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\nThese values do not go together:\n  - %s\n" (join "\n  - " $faults)) -}}
{{- end -}}
{{- end -}}

{{- define "parley.alertNames" -}}
{{- $names := list -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- range ($.Files.Get $path | fromYaml).groups -}}
{{- range .rules -}}{{- with .alert -}}{{- $names = append $names . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml ($names | uniq | sortAlpha) -}}
{{- end -}}

{{/* The checks below render a YAML list of faults. */}}

{{/* Values that the bundled databases ignore: a password that is set here would not be theirs. */}}
{{- define "parley.checks.devDependencies" -}}
{{- $v := .Values -}}
{{- if $v.devDependencies.enabled -}}
{{- $faults := list -}}
{{- range $key, $value := dict "database.password" $v.database.password "database.existingSecret.passwordKey" $v.database.existingSecret.passwordKey -}}
{{- if $value -}}{{- $faults = append $faults (printf "%s is not the bundled Postgres's: set devDependencies.postgres.password" $key) -}}{{- end -}}
{{- end -}}
{{- range $key, $value := dict "redis.password" $v.redis.password "redis.existingSecret.passwordKey" $v.redis.existingSecret.passwordKey -}}
{{- if $value -}}{{- $faults = append $faults (printf "%s is not the bundled Redis's: set devDependencies.redis.password" $key) -}}{{- end -}}
{{- end -}}
{{- range $key, $value := dict "redis.username" $v.redis.username "redis.sentinelMaster" $v.redis.sentinelMaster -}}
{{- if $value -}}{{- $faults = append $faults (printf "%s cannot be used with devDependencies: the bundled Redis has no sentinels and only its default user" $key) -}}{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end -}}
{{- end -}}

{{/* Secrets that are given twice. */}}
{{- define "parley.checks.secrets" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- range list
  (list "database.password" $v.database.password "database.existingSecret.passwordKey" $v.database.existingSecret.passwordKey)
  (list "database.migrateUrl" $v.database.migrateUrl "database.existingSecret.migrateUrlKey" $v.database.existingSecret.migrateUrlKey)
  (list "redis.password" $v.redis.password "redis.existingSecret.passwordKey" $v.redis.existingSecret.passwordKey)
  (list "trustedCA.secret" $v.trustedCA.secret "trustedCA.configMap" $v.trustedCA.configMap) -}}
{{- if and (index . 1) (index . 3) -}}{{- $faults = append $faults (printf "%s and %s are both set: leave out one" (index . 0) (index . 2)) -}}{{- end -}}
{{- end -}}
{{- range $path, $setting := include "parley.secretSettings" . | fromYaml -}}
{{- $at := include "parley.at" (list $ $path) | fromYaml -}}
{{- if and (get $at $setting.field) $at.existingSecret.key -}}{{- $faults = append $faults (printf "%s.%s and %s.existingSecret.key are both set: leave out one" $path $setting.field $path) -}}{{- end -}}
{{- end -}}
{{- if regexMatch "^[^:]+:[0-9]+$" $v.database.host -}}{{- $faults = append $faults "database.host holds a port: set database.port" -}}{{- end -}}
{{- toYaml $faults -}}
{{- end -}}

{{/* Environment variables that do nothing, or that the chart sets itself. */}}
{{- define "parley.checks.environment" -}}
{{- $faults := list -}}
{{- $settings := .Files.Get "files/settings.yaml" | fromYamlArray -}}
{{- $lists := dict "extraEnv" .Values.extraEnv -}}
{{- range $component, $key := include "parley.components" . | fromYaml -}}
{{- $_ := set $lists (printf "%s.extraEnv" $key) (get (get $.Values $key) "extraEnv") -}}
{{- end -}}
{{- range $where, $env := $lists -}}
{{- $seen := dict -}}
{{- range $env -}}
{{- if has .name (list "PARLEY_HTTP_ADDR" "PARLEY_OPS_ADDR" "PARLEY_SHUTDOWN_TIMEOUT" "PARLEY_DRAIN_DELAY" "SSL_CERT_DIR") -}}
{{- $faults = append $faults (printf "%s sets %s, which the chart sets itself" $where .name) -}}
{{- else if and (hasPrefix "PARLEY_" .name) (not (has .name $settings)) -}}
{{- $faults = append $faults (printf "%s sets %s, which is no setting of Parley's (docs/settings.md lists them)" $where .name) -}}
{{- end -}}
{{- if hasKey $seen .name -}}{{- $faults = append $faults (printf "%s sets %s twice" $where .name) -}}{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end -}}

{{- define "parley.checks.pods" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- $lists := dict "commonLabels" $v.commonLabels -}}
{{- range $component, $key := include "parley.components" . | fromYaml -}}
{{- $c := get $v $key -}}
{{- $_ := set $lists (printf "%s.podLabels" $key) $c.podLabels -}}
{{- if and (eq (default "" (default dict $c.strategy).type) "Recreate") (default dict $c.strategy).rollingUpdate -}}{{- $faults = append $faults (printf "%s.strategy has rollingUpdate beside type Recreate" $key) -}}{{- end -}}
{{- end -}}
{{- range $where, $labels := $lists -}}
{{- range $label, $value := $labels -}}
{{- if has $label (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component") -}}
{{- $faults = append $faults (printf "%s sets %s, by which Services and policies find the pods" $where $label) -}}
{{- else if not (regexMatch "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$" $value) -}}
{{- $faults = append $faults (printf "%s.%s is %q, which is no value of a label" $where $label $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ge (int $v.verify.waitSeconds) (int $v.verify.activeDeadlineSeconds) -}}{{- $faults = append $faults "verify.waitSeconds must be less than verify.activeDeadlineSeconds" -}}{{- end -}}
{{- if and $v.podMonitor.enabled $v.serviceMonitor.enabled -}}{{- $faults = append $faults "podMonitor and serviceMonitor are both enabled: every pod would be scraped twice" -}}{{- end -}}
{{- toYaml $faults -}}
{{- end -}}

{{- define "parley.checks.network" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- range $v.config.trustedProxies -}}
{{- if hasSuffix "/0" . -}}{{- $faults = append $faults (printf "config.trustedProxies has %s, which trusts everybody: any client could choose the address that limits count" .) -}}{{- end -}}
{{- end -}}
{{- if and $v.service.loadBalancerClass (ne $v.service.type "LoadBalancer") -}}{{- $faults = append $faults "service.loadBalancerClass needs service.type LoadBalancer" -}}{{- end -}}
{{- toYaml $faults -}}
{{- end -}}

{{- define "parley.checks.dispatcher" -}}
{{- $v := .Values -}}
{{- $faults := list -}}
{{- $vapid := or $v.push.vapid.privateKey $v.push.vapid.existingSecret.name -}}
{{- if and (or $vapid $v.push.fcm.credentials $v.push.fcm.existingSecret.name) (not $v.dispatcher.enabled) -}}
{{- $faults = append $faults "push needs dispatcher.enabled, which sends" -}}
{{- end -}}
{{- if and $vapid (not $v.config.pushVapidSubject) -}}
{{- $faults = append $faults "push.vapid needs config.pushVapidSubject, by which push services can reach you: mailto:ops@example.com" -}}
{{- end -}}
{{- with $v.dispatcher -}}
{{- if .enabled -}}
{{- if not (or $v.secretsKey.value $v.secretsKey.existingSecret.name) -}}
{{- $faults = append $faults "secretsKey.value or secretsKey.existingSecret is required with dispatcher.enabled: it decrypts the secrets that sign webhooks. openssl rand -base64 32 makes one" -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- $faults = append $faults "dispatcher.autoscaling.minReplicas is more than dispatcher.autoscaling.maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end -}}
