{{/* Names, labels and images. */}}

{{- define "clara.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A name that leaves room for what Kubernetes adds for the Pods of a Job. */}}
{{- define "clara.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* A text as the value of a label. */}}
{{- define "clara.labelValue" -}}
{{- regexReplaceAll "[^A-Za-z0-9._-]" . "-" | trunc 63 | trimAll "-_." }}
{{- end }}

{{- define "clara.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ include "clara.labelValue" .Release.Name }}
{{- end }}

{{- define "clara.labels" -}}
{{ include "clara.selector" . }}
app.kubernetes.io/component: study
app.kubernetes.io/part-of: clara-stages
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ include "clara.chart" . }}
clara-workflow/workflow-id: {{ include "clara.workflowId" . | quote }}
clara-workflow/job-id: {{ include "clara.labelValue" .Values.job.id | quote }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The reference of an image, with the registry that all have in common. */}}
{{- define "clara.image" -}}
{{- $registry := trimSuffix "/" .root.Values.image.registry }}
{{- if $registry }}{{ $registry = printf "%s/" $registry }}{{ end }}
{{- printf "%s%s:%s" $registry .image.repository .image.tag | quote }}
{{- end }}

{{/* What every container may do: nothing but its work. */}}
{{- define "clara.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: ["ALL"]
{{- end }}
