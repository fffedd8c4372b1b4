{{/* Names. 43 characters leave room for the longest suffix in the 63 of a label. */}}
{{- define "parley.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "parley.serviceAccountName" -}}
{{- default (ternary (include "parley.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{/* The kinds of processes that run, and the key of each one's values. */}}
{{- define "parley.components" -}}
api: api
presence-watcher: presenceWatcher
receipt-worker: receiptWorker
{{- if .Values.dispatcher.enabled }}
dispatcher: dispatcher
{{- end }}
{{- end -}}

{{/* Their names as a list, with others'. Takes (list $ names...). */}}
{{- define "parley.componentNames" -}}
{{- concat (include "parley.components" (first .) | fromYaml | keys | sortAlpha) (rest .) | join ", " -}}
{{- end -}}

{{/* What a selector may hold: it never changes. Takes (list $ component). */}}
{{- define "parley.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. Takes (list $ component). */}}
{{- define "parley.labels" -}}
{{- $ := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "parley.selectorLabels" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: parley
app.kubernetes.io/managed-by: {{ $.Release.Service }}
{{- with $.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "parley.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels of a pod. Not the chart's version: a new chart alone restarts nothing. Takes (list $ component). */}}
{{- define "parley.podLabels" -}}
{{ include "parley.selectorLabels" . }}
app.kubernetes.io/part-of: parley
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The security context of containers, which keeps them within Pod Security's restricted. Takes (list $ values). */}}
{{- define "parley.containerSecurityContext" -}}
{{- $context := deepCopy (include "parley.own" (append . "containerSecurityContext") | fromYaml) -}}
{{- include "parley.fill" (list $context (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")))) -}}
{{- toYaml $context -}}
{{- end -}}

{{/* The security context of pods, likewise. Takes (list $ values). */}}
{{- define "parley.podSecurityContext" -}}
{{- $context := deepCopy (include "parley.own" (append . "podSecurityContext") | fromYaml) -}}
{{- include "parley.fill" (list $context (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault"))) -}}
{{- toYaml $context -}}
{{- end -}}

{{/* A value of one kind of pod, or the same value for all pods if that one is empty. Takes (list $ values key); renders YAML,
or nothing if both are empty. */}}
{{- define "parley.own" -}}
{{- $key := index . 2 -}}
{{- with default (get (index . 0).Values $key) (get (index . 1) $key) -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* Where and how a pod is scheduled, and how it resolves names. Takes (list $ values). */}}
{{- define "parley.scheduling" -}}
{{- $self := . -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "dnsConfig" "hostAliases" -}}
{{- with include "parley.own" (append $self $key) }}
{{ $key }}:
  {{- . | nindent 2 }}
{{- end -}}
{{- end -}}
{{- with include "parley.own" (append $self "priorityClassName") }}
priorityClassName: {{ . }}
{{- end -}}
{{- end -}}

{{/* The fields that all pods of Parley's image share. Takes (list $ values). */}}
{{- define "parley.podBase" -}}
{{- $ := index . 0 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "parley.podSecurityContext" . | nindent 2 }}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "parley.scheduling" . }}
{{- with include "parley.volumes" . }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The fields that all containers of Parley's image share. Takes (list $ values program args...). */}}
{{- define "parley.containerBase" -}}
{{- $ := index . 0 -}}
{{- $self := list $ (index . 1) -}}
image: {{ include "parley.image" $ }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
command: [/usr/local/bin/{{ index . 2 }}]
{{- with slice . 3 }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "parley.containerSecurityContext" $self | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with include "parley.volumeMounts" $self }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where the certificates of trustedCA are mounted. Go reads every file there, beside the system's roots. */}}
{{- define "parley.caDir" -}}/etc/parley/ca{{- end -}}

{{/* The volumes of a pod. Takes (list $ values). */}}
{{- define "parley.volumes" -}}
{{- $ := index . 0 -}}
{{- $volumes := concat $.Values.extraVolumes (default list (get (index . 1) "extraVolumes")) -}}
{{- with $.Values.trustedCA -}}
{{- if .secret -}}
{{- $volumes = append $volumes (dict "name" "trusted-ca" "secret" (dict "secretName" .secret)) -}}
{{- else if .configMap -}}
{{- $volumes = append $volumes (dict "name" "trusted-ca" "configMap" (dict "name" .configMap)) -}}
{{- end -}}
{{- end -}}
{{- with $volumes }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* Their mounts in Parley's container. Takes (list $ values). */}}
{{- define "parley.volumeMounts" -}}
{{- $ := index . 0 -}}
{{- $mounts := concat $.Values.extraVolumeMounts (default list (get (index . 1) "extraVolumeMounts")) -}}
{{- if or $.Values.trustedCA.secret $.Values.trustedCA.configMap -}}
{{- $mounts = append $mounts (dict "name" "trusted-ca" "mountPath" (include "parley.caDir" $) "readOnly" true) -}}
{{- end -}}
{{- with $mounts }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* The environment that every container of Parley's image gets: the private CA, and the variables of the values. Takes
(list $ values). */}}
{{- define "parley.extraEnv" -}}
{{- $ := index . 0 -}}
{{- if or $.Values.trustedCA.secret $.Values.trustedCA.configMap -}}
- name: SSL_CERT_DIR
  value: /etc/ssl/certs:{{ include "parley.caDir" $ }}
{{ end -}}
{{- with concat $.Values.extraEnv (default list (get (index . 1) "extraEnv")) -}}
{{- toYaml . }}
{{ end -}}
{{- end -}}

{{/* Their sources of whole environments. Takes (list $ values). */}}
{{- define "parley.extraEnvFrom" -}}
{{- with concat (index . 0).Values.extraEnvFrom (default list (get (index . 1) "extraEnvFrom")) -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The settings that are secrets and belong to some kinds of processes, by their place in the values, which has the secret itself
(under `field`) and `existingSecret: {name, key}`. `key` is theirs in the chart's own Secret. A new one needs a line here and its values. */}}
{{- define "parley.secretSettings" -}}
jwt: { variable: PARLEY_JWT_SECRET, field: secret, key: jwt-secret, components: [api] }
metricsToken: { variable: PARLEY_METRICS_TOKEN, field: value, key: metrics-token, components: [api] }
bootstrapKey: { variable: PARLEY_BOOTSTRAP_KEY, field: value, key: bootstrap-key, components: [api] }
secretsKey: { variable: PARLEY_SECRETS_KEY, field: value, key: secrets-key, components: [api, dispatcher] }
push.vapid: { variable: PARLEY_PUSH_VAPID_PRIVATE_KEY, field: privateKey, key: push-vapid-private-key, components: [api, dispatcher] }
push.fcm: { variable: PARLEY_PUSH_FCM_CREDENTIALS, field: credentials, key: push-fcm-credentials, components: [api, dispatcher] }
{{- end -}}

{{/* The values at a path such as push.vapid. Takes (list $ path); renders YAML. */}}
{{- define "parley.at" -}}
{{- $at := (index . 0).Values -}}
{{- range splitList "." (index . 1) -}}{{- $at = get $at . -}}{{- end -}}
{{- toYaml $at -}}
{{- end -}}

{{/* The storage for files: that of the values, or the chart's own, which has `bundled`. Renders YAML. */}}
{{- define "parley.storage" -}}
{{- $own := .Values.devDependencies.storage -}}
{{- if and .Values.devDependencies.enabled $own.enabled (not .Values.storage.endpoint) -}}
bundled: true
endpoint: http://{{ include "parley.fullname" . }}-storage:7070
publicEndpoint: {{ default $own.publicEndpoint .Values.storage.publicEndpoint | quote }}
region: us-east-1
bucket: parley
pathStyle: true
accessKey: {{ $own.accessKey | quote }}
secretKey: {{ $own.secretKey | quote }}
existingSecret: { name: "", accessKeyKey: "", secretKeyKey: "" }
{{- else -}}
{{- toYaml .Values.storage -}}
{{- end -}}
{{- end -}}

{{/* The Secret that holds the secrets that are written in the values; absent where there are none. */}}
{{- define "parley.secretData" -}}
{{- $data := dict -}}
{{- $dev := .Values.devDependencies -}}
{{- $storage := include "parley.storage" . | fromYaml -}}
{{- $secrets := dict "database-url" .Values.database.url "database-password" (ternary $dev.postgres.password .Values.database.password $dev.enabled)
  "migrate-database-url" .Values.database.migrateUrl
  "redis-url" .Values.redis.url "redis-password" (ternary $dev.redis.password .Values.redis.password $dev.enabled)
  "s3-access-key" $storage.accessKey "s3-secret-key" $storage.secretKey -}}
{{- range $path, $setting := include "parley.secretSettings" . | fromYaml -}}
{{- $_ := set $secrets $setting.key (get (include "parley.at" (list $ $path) | fromYaml) $setting.field) -}}
{{- end -}}
{{- if and $dev.enabled (not .Values.jwt.secret) (not .Values.jwt.existingSecret.name) -}}
{{- $_ := set $secrets "jwt-secret" (include "parley.devSecret" .) -}}
{{- end -}}
{{- range $key, $value := $secrets -}}
{{- if $value -}}{{- $_ := set $data $key (b64enc $value) -}}{{- end -}}
{{- end -}}
{{- if $data -}}{{- toYaml $data -}}{{- end -}}
{{- end -}}

{{/* Known to everybody who reads this: see parley.checks. */}}
{{- define "parley.devSecret" -}}not a secret: for development only{{- end -}}

{{/* An environment variable from a Secret: the given one where it has a name and a key, else the chart's own where it has a
value: that named like the release, or `ownSecret` of $. Takes (list $ variable existingSecretName existingKey ownKey). */}}
{{- define "parley.secretEnv" -}}
{{- $ := index . 0 -}}
{{- $own := include "parley.secretData" $ | fromYaml -}}
{{- $name := "" -}}{{- $key := "" -}}
{{- if and (index . 2) (index . 3) -}}
{{- $name = index . 2 -}}{{- $key = index . 3 -}}
{{- else if hasKey $own (index . 4) -}}
{{- $name = default (include "parley.fullname" $) $.ownSecret -}}{{- $key = index . 4 -}}
{{- end -}}
{{- if $name -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ $name }}
      key: {{ $key }}
{{ end -}}
{{- end -}}

{{/* How to reach Postgres. */}}
{{- define "parley.databaseEnv" -}}
{{- $db := .Values.database -}}
{{- $existing := $db.existingSecret -}}
{{- $host := $db.host -}}
{{- $port := $db.port -}}
{{- $ssl := $db.sslMode -}}
{{- if .Values.devDependencies.enabled -}}
{{- $host = printf "%s-postgres" (include "parley.fullname" .) -}}
{{- $port = 5432 -}}
{{- $ssl = "disable" -}}
{{- end -}}
{{- if $host -}}
- name: PARLEY_DATABASE_HOST
  value: {{ $host | quote }}
- name: PARLEY_DATABASE_PORT
  value: {{ $port | quote }}
- name: PARLEY_DATABASE_NAME
  value: {{ $db.name | quote }}
- name: PARLEY_DATABASE_USER
  value: {{ $db.user | quote }}
- name: PARLEY_DATABASE_SSLMODE
  value: {{ $ssl | quote }}
{{ include "parley.secretEnv" (list . "PARLEY_DATABASE_PASSWORD" $existing.name $existing.passwordKey "database-password") }}
{{- else -}}
{{ include "parley.secretEnv" (list . "PARLEY_DATABASE_URL" $existing.name $existing.urlKey "database-url") }}
{{- end -}}
{{- end -}}

{{- define "parley.migrateEnv" -}}
{{- $existing := .Values.database.existingSecret -}}
{{ include "parley.databaseEnv" . }}
{{- include "parley.secretEnv" (list . "PARLEY_MIGRATE_DATABASE_URL" $existing.name $existing.migrateUrlKey "migrate-database-url") }}
{{- include "parley.extraEnv" (list . dict) }}
{{- end -}}

{{- define "parley.redisEnv" -}}
{{- $redis := .Values.redis -}}
{{- $existing := $redis.existingSecret -}}
{{- if .Values.devDependencies.enabled -}}
- name: PARLEY_REDIS_URL
  value: redis://{{ include "parley.fullname" . }}-redis:6379/0
{{ else -}}
{{ include "parley.secretEnv" (list . "PARLEY_REDIS_URL" $existing.name $existing.urlKey "redis-url") }}
{{- end -}}
{{ include "parley.secretEnv" (list . "PARLEY_REDIS_PASSWORD" $existing.name $existing.passwordKey "redis-password") }}
{{- end -}}

{{/* The environment of a process. Takes (list $ component values). */}}
{{- define "parley.env" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
{{ include "parley.databaseEnv" $ }}
{{- include "parley.redisEnv" $ }}
{{- range $path, $setting := include "parley.secretSettings" $ | fromYaml }}
{{- if has $component $setting.components }}
{{- $existing := (include "parley.at" (list $ $path) | fromYaml).existingSecret }}
{{- include "parley.secretEnv" (list $ $setting.variable $existing.name $existing.key $setting.key) }}
{{- end }}
{{- end }}
{{- $storage := include "parley.storage" $ | fromYaml }}
{{- if and $storage.endpoint (has $component (list "api" "receipt-worker")) }}
{{- $existing := $storage.existingSecret }}
{{- include "parley.secretEnv" (list $ "PARLEY_S3_ACCESS_KEY" $existing.name $existing.accessKeyKey "s3-access-key") }}
{{- include "parley.secretEnv" (list $ "PARLEY_S3_SECRET_KEY" $existing.name $existing.secretKeyKey "s3-secret-key") }}
{{- end }}
{{- if $.Values.tracing.endpoint -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ $.Values.tracing.endpoint | quote }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name={{ $.Release.Namespace }},k8s.pod.name=$(POD_NAME)
{{ end -}}
{{- include "parley.extraEnv" (list $ (index . 2)) }}
{{- end -}}

{{/* The constraint that spreads a component's pods over nodes if possible. There is no second constraint for the zone: the scheduler disregards all
such constraints of a pod on a node that lacks the label of one of them, and nodes of small clusters have no zone. Takes (list $ component). */}}
{{- define "parley.spread" -}}
{{- $ := index . 0 -}}
{{- $component := index . 1 -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "parley.selectorLabels" (list $ $component) | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end -}}

{{/* The affinity of a process, to which a preference for the zone with the fewest of its pods is added; podAntiAffinity and
topologySpreadConstraints of the values replace that. Takes (list $ values component). */}}
{{- define "parley.affinity" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
{{- $affinity := include "parley.own" (list $ $values "affinity") | fromYaml -}}
{{- if and (kindIs "invalid" $values.topologySpreadConstraints) (not $affinity.podAntiAffinity) -}}
{{- $term := dict "topologyKey" "topology.kubernetes.io/zone" "matchLabelKeys" (list "pod-template-hash")
  "labelSelector" (dict "matchLabels" (include "parley.selectorLabels" (list $ (index . 2)) | fromYaml)) -}}
{{- $_ := set $affinity "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) -}}
{{- end -}}
{{- toYaml $affinity -}}
{{- end -}}
