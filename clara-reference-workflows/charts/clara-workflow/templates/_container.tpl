{{/* The containers of a study's Pod. */}}

{{/* A stage; expects root and step. */}}
{{- define "clara.stage" -}}
{{- $root := .root }}{{ $step := .step }}{{ $block := .step.block }}
- name: {{ $step.name }}
  image: {{ include "clara.image" (dict "root" $root "image" $block.image) }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  {{- with $step.args }}
  args:
    {{- /* Kubernetes reads $$ as $, and $(NAME) as a variable. */}}
    {{- range . }}
    - {{ replace "$" "$$" . | quote }}
    {{- end }}
  {{- end }}
  env:
    {{- range $key, $value := (include "clara.environment" . | fromJson) }}
    - name: {{ $key }}
      value: {{ replace "$" "$$" $value | quote }}
    {{- end }}
  resources:
    {{- include "clara.resources" $block | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "clara.containerSecurity" $root | nindent 4 }}
  volumeMounts:
    {{- include "clara.stageMounts" . | nindent 4 }}
{{- end }}

{{/* The folders a stage reads, as it sees them: <appDir>/<inputs>, then -2, -3 ... of a graph. */}}
{{- define "clara.inputPaths" -}}
{{- $paths := list }}
{{- range $index, $folder := .folders }}
{{- $suffix := "" }}{{ if $index }}{{ $suffix = printf "-%d" (add1 $index) }}{{ end }}
{{- $paths = append $paths (printf "%s/%s%s" $.block.appDir $.block.inputs $suffix) }}
{{- end }}
{{- toJson $paths }}
{{- end }}

{{/* The block's own variables, then what every stage is told (docs/reference/stage.md). */}}
{{- define "clara.environment" -}}
{{- $block := .step.block }}
{{- $server := .root.Values.modelServer.address }}
{{- if .root.Values.modelServer.embedded.enabled }}{{ $server = "127.0.0.1:8001" }}{{ end }}
{{- $arguments := "" }}{{ if .step.args }}{{ $arguments = toJson .step.args }}{{ end }}
{{- $labels := "" }}{{ if .step.labels }}{{ $labels = toJson .step.labels }}{{ end }}
{{- $told := dict
      "NVIDIA_CLARA_JOBID" .root.Values.job.id
      "NVIDIA_CLARA_STAGENAME" .step.name
      "NVIDIA_CLARA_INPUT" (include "clara.inputPaths" .step | fromJsonArray | join ":")
      "NVIDIA_CLARA_OUTPUT" (printf "%s/%s" $block.appDir $block.outputs)
      "NVIDIA_CLARA_SOURCE" (printf "%s/source" $block.appDir)
      "NVIDIA_CLARA_LOGS" $block.logName
      "NVIDIA_CLARA_PUBLISHING" $block.publishPath
      "NVIDIA_CLARA_LOCKDIR" $block.lockDir
      "NVIDIA_CLARA_WAITLOCKS" (join "," .step.waitLocks)
      "NVIDIA_CLARA_LOCKNAME" $block.lockName
      "NVIDIA_CLARA_TIMEOUT" (default $block.timeout .root.Values.job.timeout | toString)
      "NVIDIA_CLARA_TRTISURI" $server
      "NVIDIA_CLARA_NOSYNCLOCK" ""
      "NVIDIA_CLARA_ARGUMENTS" $arguments
      "NVIDIA_CLARA_LABELS" $labels
      "NVIDIA_CLARA_TERMINATIONLOG" "/dev/termination-log"
      "CLARA_CONTAINER" .step.name }}
{{- mergeOverwrite (dict) ($block.env | default dict) $told | toJson }}
{{- end }}

{{/* Quantities are text in Kubernetes, and numbers where people write them so. */}}
{{- define "clara.quantities" -}}
{{- $texts := dict }}
{{- range $name, $quantity := . }}{{ $_ := set $texts $name (toString $quantity) }}{{ end }}
{{- toJson $texts }}
{{- end }}

{{/* Limits and requests as text, with the GPU that a block asks for. */}}
{{- define "clara.resources" -}}
{{- $given := .resources | default dict }}
{{- $limits := include "clara.quantities" ($given.limits | default dict) | fromJson }}
{{- $requests := include "clara.quantities" ($given.requests | default dict) | fromJson }}
{{- if .gpu }}
{{- if not (hasKey $limits "nvidia.com/gpu") }}{{ $_ := set $limits "nvidia.com/gpu" "1" }}{{ end }}
{{- end }}
{{- $all := dict }}
{{- if $limits }}{{ $_ := set $all "limits" $limits }}{{ end }}
{{- if $requests }}{{ $_ := set $all "requests" $requests }}{{ end }}
{{- toYaml $all }}
{{- end }}

{{- define "clara.stageMounts" -}}
{{- $block := .step.block }}{{ $prefix := include "clara.payloadPrefix" .root }}
{{- $paths := include "clara.inputPaths" .step | fromJsonArray }}
{{- range $index, $folder := .step.folders }}
- name: payload
  mountPath: {{ index $paths $index | quote }}
  subPath: {{ printf "%s%s" $prefix $folder | quote }}
  readOnly: true
{{- end }}
- name: payload
  mountPath: {{ printf "%s/source" $block.appDir | quote }}
  subPath: {{ printf "%s%s" $prefix .inputFolder | quote }}
  readOnly: true
- name: payload
  mountPath: {{ printf "%s/%s" $block.appDir $block.outputs | quote }}
  subPath: {{ printf "%s%s/output" $prefix .step.name | quote }}
- name: payload
  mountPath: {{ $block.lockDir | quote }}
  subPath: {{ printf "%slocks" $prefix | quote }}
- name: payload
  mountPath: {{ dir $block.logName | quote }}
  subPath: {{ printf "%slogs" $prefix | quote }}
- name: payload
  mountPath: {{ $block.publishPath | quote }}
  subPath: {{ printf "%spublish/%s" $prefix .step.name | quote }}
- name: tmp
  mountPath: /tmp
  subPath: {{ .step.name }}
{{- end }}

{{/* Where the job lies inside the payload volume: "" or a folder with a slash at its end. */}}
{{- define "clara.payloadPrefix" -}}
{{- if ne .Values.payload.type "emptyDir" }}
{{- printf "%s/" (default .Values.job.id .Values.payload.subPath) }}
{{- end }}
{{- end }}

{{/* The toolkit at work beside the stages; expects root, name and args. */}}
{{- define "clara.toolkit" -}}
- name: {{ .name }}
  image: {{ include "clara.image" (dict "root" .root "image" .root.Values.carrier.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: ["python", "-m", "stages", "carry"]
  args:
    {{- range .args }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: CLARA_CONTAINER
      value: {{ .name }}
  resources:
    {{- include "clara.resources" .root.Values.carrier | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "clara.containerSecurity" .root | nindent 4 }}
  volumeMounts:
    - name: payload
      mountPath: /carry/payload
      {{- with include "clara.payloadPrefix" .root | trimSuffix "/" }}
      subPath: {{ . | quote }}
      {{- end }}
    {{- if .root.Values.modelServer.embedded.enabled }}
    - name: models
      mountPath: /carry/models
    {{- end }}
    - name: tmp
      mountPath: /tmp
      subPath: carrier
{{- end }}

{{/* A Triton server of the study's own, for clusters without one. */}}
{{- define "clara.modelServer" -}}
{{- $server := .Values.modelServer.embedded }}
- name: model-server
  image: {{ include "clara.image" (dict "root" . "image" $server.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with $server.args }}
  args:
    {{- range . }}
    - {{ . | quote }}
    {{- end }}
  {{- end }}
  env:
    - name: CLARA_CONTAINER
      value: model-server
  resources:
    {{- include "clara.resources" $server | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  securityContext:
    {{- include "clara.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /models
      readOnly: true
    - name: shared-memory
      mountPath: /dev/shm
    - name: tmp
      mountPath: /tmp
      subPath: model-server
{{- end }}
