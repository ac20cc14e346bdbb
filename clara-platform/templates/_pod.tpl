{{/* What the Pods of the adapter and of Triton have in common; each expects its block of the values. */}}

{{/* Where it may run, and by which right it pulls its image. */}}
{{- define "platform.scheduling" -}}
{{- with .image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- include "platform.texts" . | nindent 2 }}
{{- end }}
{{- range $key := list "affinity" "tolerations" "topologySpreadConstraints" }}
{{- with get $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
terminationGracePeriodSeconds: {{ .terminationGracePeriodSeconds | default 60 | int }}
{{- end }}

{{/* The block's podSecurityContext over ours. */}}
{{- define "platform.podSecurity" -}}
{{- $own := dict
      "runAsNonRoot" true
      "runAsUser" (int64 .user.id)
      "runAsGroup" (int64 .user.group)
      "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- include "platform.over" (list $own .podSecurityContext) }}
{{- end }}

{{/* The block's securityContext over ours: it may do nothing but its work. */}}
{{- define "platform.containerSecurity" -}}
{{- $readOnly := true }}
{{- if hasKey . "readOnlyRootFilesystem" }}{{ $readOnly = .readOnlyRootFilesystem }}{{ end }}
{{- $own := dict
      "allowPrivilegeEscalation" false
      "readOnlyRootFilesystem" $readOnly
      "capabilities" (dict "drop" (list "ALL")) }}
{{- include "platform.over" (list $own .securityContext) }}
{{- end }}

{{/* A mapping with another's keys put over it; a key that is null there is taken away. */}}
{{- define "platform.over" -}}
{{- $all := first . }}
{{- range $key, $value := last . }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $all $key }}{{ else }}{{ $_ := set $all $key $value }}{{ end }}
{{- end }}
{{- toYaml $all }}
{{- end }}
