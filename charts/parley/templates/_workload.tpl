{{/* A Deployment of one of the processes. Takes a dict:
  root          $
  component     api, presence-watcher or receipt-worker
  values        its part of the values
  probe         dict port, live, ready
  ports         further ports of the container, as a list
  args          of the program
  sleep         seconds of preStop, 0 for none
  autoscaled    whether somebody else sets the replicas
*/}}
{{- define "parley.deployment" -}}
{{- $ := .root -}}
{{- $c := .values -}}
{{- $self := list $ .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "parley.fullname" $ }}-{{ .component }}
  labels:
    {{- include "parley.labels" $self | nindent 4 }}
spec:
  {{- if not .autoscaled }}
  replicas: {{ $c.replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "parley.selectorLabels" $self | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
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
      {{- include "parley.podBase" $ | nindent 6 }}
      {{- with $c.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ default (add .sleep $c.shutdownTimeoutSeconds 5) $c.terminationGracePeriodSeconds }}
      {{- if and (eq .component "api") (eq $.Values.migrations.mode "initContainer") }}
      initContainers:
        - name: migrate
          {{- include "parley.containerBase" (list $ "api" "migrate") | nindent 10 }}
          env:
            {{- include "parley.migrateEnv" $ | trim | nindent 12 }}
          resources:
            {{- toYaml $.Values.migrations.resources | nindent 12 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          {{- include "parley.containerBase" (concat (list $ .component) .args) | nindent 10 }}
          envFrom:
            - configMapRef:
                name: {{ include "parley.fullname" $ }}
          env:
            - name: PARLEY_SHUTDOWN_TIMEOUT
              value: {{ $c.shutdownTimeoutSeconds }}s
            {{- with $c.drainDelaySeconds }}
            - name: PARLEY_DRAIN_DELAY
              value: {{ . }}s
            {{- end }}
            {{- include "parley.env" $self | trim | nindent 12 }}
            {{- with $c.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            {{- with .ports }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
            - name: ops
              containerPort: 9090
          startupProbe:
            httpGet: { port: {{ .probe.port }}, path: {{ .probe.live }} }
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: { port: {{ .probe.port }}, path: {{ .probe.live }} }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: { port: {{ .probe.port }}, path: {{ .probe.ready }} }
            periodSeconds: 3
            timeoutSeconds: 3
            failureThreshold: 2
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
      topologySpreadConstraints:
        {{- if kindIs "invalid" $c.topologySpreadConstraints }}
        {{- include "parley.spread" $self | trim | nindent 8 }}
        {{- else }}
        {{- toYaml $c.topologySpreadConstraints | nindent 8 }}
        {{- end }}
      {{- range $field := list "nodeSelector" "tolerations" "affinity" }}
      {{- with get $c $field }}
      {{ $field }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
{{- if $c.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "parley.fullname" $ }}-{{ .component }}
  labels:
    {{- include "parley.labels" $self | nindent 4 }}
spec:
  # Never minAvailable: with as many as there are, a drain would wait for ever. A pod that is not ready keeps nobody waiting.
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "parley.selectorLabels" $self | nindent 6 }}
{{- end }}
{{- end -}}
