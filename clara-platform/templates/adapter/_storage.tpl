{{/* Where the adapter keeps what it receives, and the container that makes its folders. */}}

{{/* Studies and payloads have to lie in one mount: files are linked from one to the other. */}}
{{- define "platform.adapterStorage" -}}
- name: clara-io
  mountPath: /clara-io/clara-core{{ if ne .Values.storage.type "hostPath" }}/payloads{{ end }}
{{- end }}

{{/* On a node's disk the kubelet makes folders that only root may write; a claim follows fsGroup. */}}
{{- define "platform.adapterFolders" -}}
{{- $adapter := .Values.adapter }}
{{- $hostPath := eq .Values.storage.type "hostPath" }}
{{- if or (dig "makeFolders" true $adapter) (not $hostPath) }}
initContainers:
  - name: folders
    image: {{ include "platform.image" $adapter.image }}
    imagePullPolicy: {{ $adapter.image.pullPolicy }}
    {{- if $hostPath }}
    command: ["/bin/sh", "-c"]
    args:
      - |
        for folder in payloads workflows dicom-adapter; do
            mkdir -p "$folder"
            [ "$(stat -c %u:%g "$folder")" = 0:0 ] || continue
            chown "$OWNER" "$folder" || echo "$folder belongs to root; it has to be writable for $OWNER"
        done
    env:
      - name: OWNER
        value: {{ printf "%d:%d" (int64 $adapter.user.id) (int64 $adapter.user.group) | quote }}
    workingDir: /clara-io/clara-core
    {{- else }}
    command: ["/bin/mkdir", "-p", "workflows", "dicom-adapter"]
    workingDir: /clara-io/clara-core/payloads
    {{- end }}
    resources:
      {{- include "platform.resources" $adapter.resources | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      {{- if $hostPath }}
      runAsUser: 0
      runAsGroup: 0
      runAsNonRoot: false
      {{- end }}
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: ["ALL"]
        {{- if $hostPath }}
        add: ["CHOWN"]
        {{- end }}
    volumeMounts:
      {{- include "platform.adapterStorage" . | nindent 6 }}
{{- end }}
{{- end }}
