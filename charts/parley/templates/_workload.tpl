{{/* A Deployment of one of the processes. Takes a dict:
  root          $
  component     api, presence-watcher, receipt-worker or dispatcher
  values        its part of the values
  probe         dict port, live, ready
  ports         further ports of the container, as a list
  args          of the program
  sleep         seconds of preStop, 0 for none
  autoscaling   dict enabled, minReplicas, maxReplicas
*/}}
{{- define "parley.deployment" -}}
{{- $ := .root -}}
{{- $c := .values -}}
{{- $self := list $ .component -}}
{{- $own := list $ $c -}}
{{- $name := printf "%s-%s" (include "parley.fullname" $) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "parley.labels" $self | nindent 4 }}
  {{- with include "parley.own" (append $own "deploymentAnnotations") }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
spec:
  {{- with include "parley.replicas" (dict "root" $ "name" $name "values" $c "autoscaling" .autoscaling) }}
  replicas: {{ . }}
  {{- end }}
  revisionHistoryLimit: {{ $.Values.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- include "parley.selectorLabels" $self | nindent 6 }}
  strategy:
    {{- default (dict "type" "RollingUpdate" "rollingUpdate" (dict "maxSurge" 1 "maxUnavailable" 0)) $c.strategy | toYaml | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "parley.podLabels" $self | nindent 8 }}
        {{- with $c.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ include "parley.config" $ | sha256sum }}
        {{- with include "parley.secretData" $ }}
        checksum/secret: {{ sha256sum . }}
        {{- end }}
        {{- with $c.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "parley.serviceAccountName" $ }}
      {{- $placed := merge (dict "affinity" (include "parley.affinity" (list $ $c .component) | fromYaml)) $c }}
      {{- include "parley.podBase" (list $ $placed) | nindent 6 }}
      terminationGracePeriodSeconds: {{ default (add .sleep $c.shutdownTimeoutSeconds 5) $c.terminationGracePeriodSeconds }}
      {{- $migrate := and (eq .component "api") (eq $.Values.migrations.mode "initContainer") }}
      {{- if or $migrate $c.initContainers }}
      initContainers:
        {{- with $c.initContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- if $migrate }}
        - name: migrate
          {{- include "parley.containerBase" (list $ $c "api" "migrate") | nindent 10 }}
          {{- with include "parley.extraEnvFrom" (list $ dict) }}
          envFrom:
            {{- . | nindent 12 }}
          {{- end }}
          env:
            {{- include "parley.migrateEnv" $ | trim | nindent 12 }}
          resources:
            {{- toYaml $.Values.migrations.resources | nindent 12 }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          {{- include "parley.containerBase" (concat (list $ $c .component) .args) | nindent 10 }}
          envFrom:
            - configMapRef:
                name: {{ include "parley.fullname" $ }}
            {{- with include "parley.extraEnvFrom" $own }}
            {{- . | nindent 12 }}
            {{- end }}
          env:
            - name: PARLEY_SHUTDOWN_TIMEOUT
              value: {{ $c.shutdownTimeoutSeconds }}s
            {{- with $c.drainDelaySeconds }}
            - name: PARLEY_DRAIN_DELAY
              value: {{ . }}s
            {{- end }}
            {{- include "parley.env" (append $self $c) | trim | nindent 12 }}
          ports:
            {{- with .ports }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            - name: ops
              containerPort: 9090
          {{- include "parley.probes" (list .probe $c.probes) | trim | nindent 10 }}
          {{- if .sleep }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ .sleep }}
          {{- end }}
          {{- with $c.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
        {{- with $c.extraContainers }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      topologySpreadConstraints:
        {{- if kindIs "invalid" $c.topologySpreadConstraints }}
        {{- include "parley.spread" $self | trim | nindent 8 }}
        {{- else }}
        {{- toYaml $c.topologySpreadConstraints | nindent 8 }}
        {{- end }}
{{- if $c.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "parley.labels" $self | nindent 4 }}
spec:
  # Not minAvailable: with as many as there are pods, a drain would never end. Pods that are not ready do not delay it.
  maxUnavailable: {{ $c.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "parley.selectorLabels" $self | nindent 6 }}
{{- end }}
{{- end -}}

{{/* The probes of a process. Takes (list probe overrides): overrides has startup, liveness and readiness with the fields of a
probe that change its timing. */}}
{{- define "parley.probes" -}}
{{- $probe := index . 0 -}}
{{- $overrides := index . 1 -}}
{{- range $name, $base := dict
  "startup" (dict "path" $probe.live "periodSeconds" 1 "failureThreshold" 60)
  "liveness" (dict "path" $probe.live "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 3)
  "readiness" (dict "path" $probe.ready "periodSeconds" 3 "timeoutSeconds" 3 "failureThreshold" 2) }}
{{ $name }}Probe:
  httpGet: { port: {{ $probe.port }}, path: {{ $base.path }} }
  {{- merge (deepCopy (default dict (get $overrides $name))) (omit $base "path") | toYaml | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The replicas of a Deployment; nothing if an autoscaler sets them and there is no Deployment yet. With an autoscaler the
number is the one that the Deployment has: left out, Helm would remove the field on the upgrade that switches the autoscaler on, and
Kubernetes would go to one pod. Takes a dict: root, name, values, autoscaling. */}}
{{- define "parley.replicas" -}}
{{- $scaling := .autoscaling -}}
{{- if $scaling.enabled -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- if $live -}}
{{- max (int $scaling.minReplicas) (min (int $scaling.maxReplicas) (int (default 1 $live.spec.replicas))) -}}
{{- end -}}
{{- else -}}
{{- .values.replicas -}}
{{- end -}}
{{- end -}}
