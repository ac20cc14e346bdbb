{{- define "platform.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "platform.labels" -}}
{{ include "platform.selector" . }}
app.kubernetes.io/part-of: clara-stages
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "platform.image" -}}
{{- $registry := trimSuffix "/" .registry }}
{{- if $registry }}{{ $registry = printf "%s/" $registry }}{{ end }}
{{- printf "%s%s:%s" $registry .repository .tag | quote }}
{{- end }}

{{- define "platform.dicomConfig" -}}
{{- if .Values.adapter.config }}{{ toYaml .Values.adapter.config }}{{ else }}{{ .Files.Get "files/dicom-server-config.yaml" }}{{ end }}
{{- end }}
