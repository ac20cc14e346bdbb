{{/* The workflow that is run, out of those that are defined. */}}

{{/* The locks of an entry of waitLocks, as a list; "" is the job's input. */}}
{{- define "clara.locks" -}}
{{- $locks := list }}
{{- range (kindIs "slice" . | ternary . (list .)) }}{{ $locks = append $locks (default "input.lock" .) }}{{ end }}
{{- default (list "input.lock") $locks | toJson }}
{{- end }}

{{/* The folders of an entry of ioFolders, as a list, without the blanks of a line break in print. */}}
{{- define "clara.folders" -}}
{{- $folders := list }}
{{- range (kindIs "slice" . | ternary . (list .)) }}
{{- $parts := list }}
{{- range (splitList "/" .) }}{{ $parts = append $parts (trim .) }}{{ end }}
{{- $folders = append $folders (join "/" $parts) }}
{{- end }}
{{- toJson $folders }}
{{- end }}

{{/* The folder that whoever starts a job fills: that of the first stage that waits for nobody. */}}
{{- define "clara.inputFolder" -}}
{{- $found := "" }}
{{- range $index, $stage := .stages }}
{{- $locks := include "clara.locks" (index $.waitLocks $index) | fromJsonArray | uniq }}
{{- if and (not $found) (eq (join "," $locks) "input.lock") }}{{ $found = $stage }}{{ end }}
{{- end }}
{{- printf "%s/input" (default (first .stages) $found) }}
{{- end }}

{{/* The ID of the workflow that `workflow` names, by ID or by name. */}}
{{- define "clara.workflowId" -}}
{{- $wanted := .Values.workflow }}{{ $found := list }}
{{- range $id, $workflow := .Values.workflows }}
{{- if eq $id (lower $wanted) }}{{ $found = list $id }}{{ end }}
{{- end }}
{{- if not $found }}
{{- range $id, $workflow := .Values.workflows }}
{{- if eq $workflow.name $wanted }}{{ $found = append $found $id }}{{ end }}
{{- end }}
{{- end }}
{{- if not $found }}
{{- $all := list }}
{{- range $id, $workflow := .Values.workflows }}{{ $all = append $all (printf "%s (%s)" $id $workflow.name) }}{{ end }}
{{- fail (printf "workflow: there is no workflow %q; the chart defines: %s" $wanted (join ", " $all)) }}
{{- end }}
{{- if gt (len $found) 1 }}
{{- fail (printf "workflow: several workflows are called %q; use an ID: %s" $wanted (join ", " $found)) }}
{{- end }}
{{- first $found }}
{{- end }}

{{/* The stages that are run, with what each waits for, reads and is told, as a JSON list. */}}
{{- define "clara.steps" -}}
{{- $workflow := get .Values.workflows (include "clara.workflowId" .) }}
{{- $chosen := default $workflow.stages .Values.job.stages }}
{{- range $chosen }}
{{- if not (has . $workflow.stages) }}
{{- fail (printf "job.stages: %q is no stage of the workflow; it has %s" . (join ", " $workflow.stages)) }}
{{- end }}
{{- end }}
{{- $steps := list }}
{{- range $index, $name := $workflow.stages }}
{{- if has $name $chosen }}
{{- $given := index $workflow.args $index }}
{{- $args := kindIs "slice" $given | ternary $given (list $given) }}
{{- if eq (toJson $args) "[\"\"]" }}{{ $args = list }}{{ end }}
{{- $steps = append $steps (dict
      "name" $name
      "block" (get $.Values.stages $name)
      "waitLocks" (include "clara.locks" (index $workflow.waitLocks $index) | fromJsonArray)
      "folders" (include "clara.folders" (index $workflow.ioFolders $index) | fromJsonArray)
      "args" $args
      "labels" ($workflow.labels | default list)) }}
{{- end }}
{{- end }}
{{- toJson $steps }}
{{- end }}
