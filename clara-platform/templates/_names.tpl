{{/* Names, labels, images, and values as Kubernetes wants them. */}}

{{/* The beginning of every name: a DNS label (RFC 1035), with room for what is added. */}}
{{- define "platform.name" -}}
{{- $name := default .Release.Name .Values.nameOverride | replace "." "-" }}
{{- if regexMatch "^[0-9]" $name }}{{ $name = printf "clara-%s" $name }}{{ end }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "platform.adapterName" -}}
{{ include "platform.name" . }}-adapter
{{- end }}

{{- define "platform.tritonName" -}}
{{ include "platform.name" . }}-triton
{{- end }}

{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The labels of an object of a component; expects root, component, and more (further labels). */}}
{{- define "platform.labels" -}}
{{- $root := .root }}
{{- $all := dict
      "app.kubernetes.io/part-of" "clara-stages"
      "app.kubernetes.io/managed-by" $root.Release.Service
      "app.kubernetes.io/version" $root.Chart.AppVersion
      "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- $all = mergeOverwrite $all (include "platform.texts" $root.Values.labels | fromYaml) }}
{{- $all = mergeOverwrite $all (include "platform.texts" .more | fromYaml) }}
{{- $all = mergeOverwrite $all (include "platform.selector" $root | fromYaml) }}
{{- $_ := set $all "app.kubernetes.io/component" .component }}
{{- include "platform.texts" $all }}
{{- end }}

{{- define "platform.image" -}}
{{- $registry := trimSuffix "/" (.registry | default "") }}
{{- if $registry }}{{ $registry = printf "%s/" $registry }}{{ end }}
{{- $version := printf ":%s" .tag }}
{{- with .digest }}{{ $version = printf "@%s" . }}{{ end }}
{{- printf "%s%s%s" $registry .repository $version | quote }}
{{- end }}

{{/* A number, truth value or text as text: Helm reads every number as a float. */}}
{{- define "platform.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* A mapping of such values, as labels, annotations and node selectors are; what is null is left out. */}}
{{- define "platform.texts" -}}
{{- $all := dict }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $all $key (include "platform.text" $value) }}{{ end }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* Resources with quantities as texts. */}}
{{- define "platform.resources" -}}
{{- $all := dict }}
{{- range $kind := list "requests" "limits" }}
{{- $quantities := include "platform.texts" (index ($ | default dict) $kind) | fromYaml }}
{{- if $quantities }}{{ $_ := set $all $kind $quantities }}{{ end }}
{{- end }}
{{- toYaml $all }}
{{- end }}
