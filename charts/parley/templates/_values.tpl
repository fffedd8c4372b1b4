{{/* Values that an older release of the chart did not have are filled in from files/added.yaml: after helm upgrade
--reuse-values, .Values holds the older chart's defaults and none of this one's. Every template includes this first. */}}
{{- define "parley.init" -}}
{{- include "parley.fill" (list .Values (.Files.Get "files/added.yaml" | fromYaml)) -}}
{{- end -}}

{{/* Sets in a map what it lacks and another map has, at every depth. Inside `resources` nothing is added: there a key that is
missing was removed with null. Takes (list map defaults); changes the map, renders nothing. */}}
{{- define "parley.fill" -}}
{{- $map := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- if not (hasKey $map $key) -}}
{{- $_ := set $map $key (deepCopy $value) -}}
{{- else if and (kindIs "map" $value) (kindIs "map" (get $map $key)) (ne $key "resources") -}}
{{- include "parley.fill" (list (get $map $key) $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
