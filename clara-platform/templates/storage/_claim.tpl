{{/* The volume's name, in all of the cluster. */}}
{{- define "platform.volumeName" -}}
{{- printf "%s-%s-payloads" .Release.Namespace (include "platform.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* A claim of a storage class; expects root and claim. */}}
{{- define "platform.claim" -}}
{{- $claim := .claim }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $claim.claimName }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "platform.labels" (dict "root" .root "component" "storage") | nindent 4 }}
  annotations:
    # What is in it belongs to patients, or took long to train: it outlives the installation.
    helm.sh/resource-policy: keep
spec:
  accessModes: [{{ $claim.accessMode | quote }}]
  {{- with $claim.storageClassName }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ include "platform.text" $claim.size | quote }}
{{- end }}
