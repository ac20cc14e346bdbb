{{/* The Job of one study: its stages are the containers of one Pod. */}}

{{- define "clara.jobSpec" -}}
{{- $workflow := get .Values.workflows (include "clara.workflowId" .) }}
{{- $steps := include "clara.steps" . | fromJsonArray }}
{{- $inputFolder := include "clara.inputFolder" $workflow }}
backoffLimit: {{ .Values.job.backoffLimit }}
activeDeadlineSeconds: {{ include "clara.deadline" . }}
ttlSecondsAfterFinished: {{ .Values.job.ttlSecondsAfterFinished }}
{{- if semverCompare ">=1.26-0" .Capabilities.KubeVersion.Version }}
podFailurePolicy:
  rules:
    - action: Ignore # the cluster's own doing, such as a drained node
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob # 2: settings, 3: input that cannot be used; another try would end the same way
      onExitCodes:
        operator: In
        values: [2, 3]
{{- end }}
template:
  metadata:
    labels:
      {{- include "clara.labels" . | nindent 6 }}
    annotations:
      kubectl.kubernetes.io/default-container: {{ (first $steps).name }}
      {{- with .Values.podAnnotations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    # Counts from the Pod's start on its node, not while it waits for one.
    activeDeadlineSeconds: {{ include "clara.podDeadline" . }}
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    shareProcessNamespace: {{ .Values.carrier.enabled }}
    terminationGracePeriodSeconds: {{ .Values.job.terminationGracePeriodSeconds }}
    securityContext:
      runAsNonRoot: true
      runAsUser: {{ .Values.user.id }}
      runAsGroup: {{ .Values.user.group }}
      fsGroup: {{ .Values.user.group }}
      fsGroupChangePolicy: OnRootMismatch
      seccompProfile:
        type: RuntimeDefault
    {{- with .Values.image.pullSecrets }}
    imagePullSecrets:
      {{- range . }}
      - name: {{ . | quote }}
      {{- end }}
    {{- end }}
    {{- with .Values.priorityClassName }}
    priorityClassName: {{ . | quote }}
    {{- end }}
    {{- with .Values.runtimeClassName }}
    runtimeClassName: {{ . | quote }}
    {{- end }}
    {{- with .Values.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- if .Values.spread }}
    topologySpreadConstraints:
      - topologyKey: kubernetes.io/hostname
        maxSkew: 1
        whenUnsatisfiable: ScheduleAnyway
        labelSelector:
          matchLabels:
            app.kubernetes.io/name: {{ .Chart.Name }}
            app.kubernetes.io/component: study
    {{- end }}
    {{- $lease := .Values.carrier.leaseSeconds | toString }}
    {{- if include "clara.receives" . }}
    initContainers:
      {{- include "clara.toolkit" (dict "root" . "name" "receiver" "args" (list "receive" "/carry" "--lease" $lease)) | nindent 6 }}
    {{- else if not .Values.carrier.enabled }}
    initContainers:
      {{- $args := list "ready" "/carry" "--input" $inputFolder }}
      {{- range $steps }}{{ $args = concat $args (list "--stage" .name) }}{{ end }}
      {{- include "clara.toolkit" (dict "root" . "name" "ready" "args" $args) | nindent 6 }}
    {{- end }}
    containers:
      {{- range $steps }}
      {{- include "clara.stage" (dict "root" $ "step" . "inputFolder" $inputFolder) | nindent 6 }}
      {{- end }}
      {{- if .Values.carrier.enabled }}
      {{- include "clara.toolkit" (dict "root" . "name" "carrier" "args" (list "serve" "/carry" "--lease" $lease)) | nindent 6 }}
      {{- end }}
      {{- if .Values.modelServer.embedded.enabled }}
      {{- include "clara.modelServer" . | nindent 6 }}
      {{- end }}
    volumes:
      - name: payload
        {{- include "clara.payloadVolume" . | nindent 8 }}
      - name: tmp
        emptyDir: {}
      {{- if .Values.modelServer.embedded.enabled }}
      - name: models
        emptyDir: {}
      - name: shared-memory
        emptyDir:
          medium: Memory
          sizeLimit: {{ .Values.modelServer.embedded.sharedMemory | quote }}
      {{- end }}
{{- end }}

{{/* "yes" where whoever runs the job streams files into the Pod before the stages start. */}}
{{- define "clara.receives" -}}
{{- if or (eq .Values.payload.type "emptyDir") .Values.modelServer.embedded.enabled }}
{{- if not .Values.carrier.enabled }}
{{- fail "payload.type emptyDir and modelServer.embedded need carrier.enabled: somebody has to fill them, as `clara-wf test --engine kubernetes` does; use payload.type persistentVolumeClaim or hostPath" }}
{{- end }}yes
{{- end }}
{{- end }}

{{- define "clara.payloadVolume" -}}
{{- $payload := .Values.payload }}
{{- if eq $payload.type "emptyDir" }}
{{- if $payload.sizeLimit }}
emptyDir:
  sizeLimit: {{ $payload.sizeLimit | quote }}
{{- else }}
emptyDir: {}
{{- end }}
{{- else if eq $payload.type "persistentVolumeClaim" }}
persistentVolumeClaim:
  claimName: {{ required "payload.claimName: name the claim that holds the payloads" $payload.claimName | quote }}
{{- else }}
hostPath:
  path: {{ required "payload.hostPath: name the folder of the payloads on the nodes" $payload.hostPath | quote }}
  type: Directory
{{- end }}
{{- end }}

{{/* Every stage may take its whole timeout; then the Pod is ended. */}}
{{- define "clara.podDeadline" -}}
{{- $seconds := float64 .Values.job.startupSeconds }}
{{- range (include "clara.steps" . | fromJsonArray) }}
{{- $seconds = addf $seconds (default .block.timeout $.Values.job.timeout | float64) 30 }}
{{- end }}
{{- ceil $seconds | int64 }}
{{- end }}

{{/* Each of the tries may wait for its node and run for as long; then the Job is ended. */}}
{{- define "clara.deadline" -}}
{{- if .Values.job.activeDeadlineSeconds }}
{{- int64 .Values.job.activeDeadlineSeconds }}
{{- else }}
{{- $try := add (int64 .Values.job.schedulingSeconds) (include "clara.podDeadline" . | int64) }}
{{- mul $try (add1 .Values.job.backoffLimit) }}
{{- end }}
{{- end }}
