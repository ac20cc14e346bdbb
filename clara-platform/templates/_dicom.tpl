{{/* The adapter's configuration: the file or adapter.config, and what a Pod needs beyond it. */}}

{{/* What is written where the configuration says nothing. */}}
{{- define "platform.dicomDefaults" -}}
{{- $all := dict
      "http" (dict "host" "0.0.0.0" "port" 8080 "token-file" "/run/clara/token")
      "jobs" (dict "engine" "kubernetes") }}
{{- if ne .Values.storage.type "hostPath" }}
{{- $_ := set $all "storage" (dict "received" "/clara-io/clara-core/payloads/dicom-adapter") }}
{{- end }}
{{- $given := .Values.adapter.tls | default dict }}
{{- if $given.secretName }}
{{- $tls := dict "certificate" "/etc/clara/tls/tls.crt" "key" "/etc/clara/tls/tls.key" }}
{{- with $given.clientCertificates }}
{{- $_ := set $tls "client-certificates" (printf "/etc/clara/tls/%s" .) }}
{{- end }}
{{- $_ := set $all "dicom" (dict "scp" (dict "tls" $tls)) }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* Write into a mapping what it lacks of another; expects both. What it says is kept, 0 and false too. */}}
{{- define "platform.fill" -}}
{{- $given := first . }}
{{- range $key, $value := last . }}
{{- $there := get $given $key }}
{{- if or (not (hasKey $given $key)) (kindIs "invalid" $there) (eq (toString $there) "") }}
{{- $_ := set $given $key $value }}
{{- else if and (kindIs "map" $value) (kindIs "map" $there) }}
{{- include "platform.fill" (list $there $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The text of the ConfigMap. It stays as it is written, with what it lacks at its end, if only whole blocks are lacking. */}}
{{- define "platform.dicomConfig" -}}
{{- $text := .Files.Get "files/dicom-server-config.yaml" }}
{{- if .Values.adapter.config }}{{ $text = toYaml .Values.adapter.config }}{{ end }}
{{- $given := fromYaml $text }}
{{- if hasKey $given "Error" }}
{{- fail (printf "files/dicom-server-config.yaml cannot be read: %s" $given.Error) }}
{{- end }}
{{- $defaults := include "platform.dicomDefaults" . | fromYaml }}
{{- $whole := fromYaml $text }}
{{- include "platform.fill" (list $whole $defaults) }}
{{- if (.Values.adapter.tls | default dict).secretName }}
{{- $_ := set $whole.dicom.scp.tls "enabled" true }}
{{- end }}
{{- $lacking := dict }}{{ $changed := false }}
{{- range $block, $keys := $whole }}
{{- if not (hasKey $given $block) }}{{ $_ := set $lacking $block $keys }}
{{- else if ne (toJson $keys) (toJson (get $given $block)) }}{{ $changed = true }}
{{- end }}
{{- end }}
{{- if $changed }}
{{- toYaml $whole }}
{{- else }}
{{- trimSuffix "\n" $text }}
{{- with $lacking }}

# Added by the chart.
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same, read; what could never be reached is refused. */}}
{{- define "platform.dicomSettings" -}}
{{- $config := include "platform.dicomConfig" . | fromYaml }}
{{- $scp := get ($config.dicom | default dict) "scp" | default dict }}
{{- $http := $config.http | default dict }}
{{- if regexMatch "^(localhost|127\\..*|::1)$" ($http.host | default "127.0.0.1" | toString) }}
{{- fail (printf "the adapter's configuration: http.host %q is the Pod's loopback, where neither probes nor people can ask; leave http.host and http.token-file out, and the chart writes 0.0.0.0 with a token" $http.host) }}
{{- end }}
{{- $ports := dict "dicom" (dig "port" 104 $scp | int) "http" (dig "port" 8080 $http | int) }}
{{- range $name, $port := $ports }}
{{- if or (lt $port 1) (gt $port 65535) }}
{{- fail (printf "the adapter's configuration: the %s port is %d; write one from 1 to 65535, which the Service can name" $name $port) }}
{{- end }}
{{- end }}
{{- toJson $ports }}
{{- end }}

{{- define "platform.tokenSecret" -}}
{{- default (printf "%s-token" (include "platform.adapterName" .)) .Values.adapter.tokenSecret }}
{{- end }}

{{- define "platform.serviceAccount" -}}
{{- default (include "platform.adapterName" .) (.Values.adapter.serviceAccount | default dict).name }}
{{- end }}

{{/* The configuration and the Secrets it names, for the adapter and for the Pod that tests it. */}}
{{- define "platform.settingsVolumes" -}}
- name: config
  configMap:
    name: {{ include "platform.name" . }}-dicom
{{- range $name, $secret := (include "platform.secrets" . | fromJson) }}
- name: {{ $name }}
  secret:
    secretName: {{ $secret.name | quote }}
    defaultMode: 288 # 0440
{{- end }}
{{- end }}

{{- define "platform.settingsMounts" -}}
- name: config
  mountPath: /etc/clara
  readOnly: true
{{- range $name, $secret := (include "platform.secrets" . | fromJson) }}
- name: {{ $name }}
  mountPath: {{ $secret.path | quote }}
  readOnly: true
{{- end }}
{{- end }}

{{/* By the volume's name: the Secret, and where it is mounted. */}}
{{- define "platform.secrets" -}}
{{- $all := dict "token" (dict "name" (include "platform.tokenSecret" .) "path" "/run/clara") }}
{{- with (.Values.adapter.tls | default dict).secretName }}
{{- $_ := set $all "tls" (dict "name" . "path" "/etc/clara/tls") }}
{{- end }}
{{- range $index, $name := (.Values.adapter.secrets | default list | uniq) }}
{{- $_ := set $all (printf "secret-%d" $index) (dict "name" $name "path" (printf "/etc/clara/secrets/%s" $name)) }}
{{- end }}
{{- toJson $all }}
{{- end }}
