{{/* What values.schema.json cannot say. The rules are those of `clara-wf lint`, which also tells line and column. */}}

{{- define "clara.check" -}}
{{- range $name, $block := .Values.stages }}
{{- include "clara.check.stage" (dict "name" $name "block" $block) }}
{{- end }}
{{- range $id, $workflow := .Values.workflows }}
{{- include "clara.check.workflow" (dict "id" $id "workflow" $workflow "known" $.Values.stages) }}
{{- end }}
{{- end }}

{{- define "clara.check.stage" -}}
{{- $name := .name }}{{ $block := .block }}{{ $at := printf "stages.%s" .name }}
{{- if ne $block.stageName $name }}
{{- fail (printf "%s.stageName: found %q; write %q" $at $block.stageName $name) }}
{{- end }}
{{- if ne $block.lockName (printf "%s.lock" $name) }}
{{- fail (printf "%s.lockName: found %q; write %q" $at $block.lockName (printf "%s.lock" $name)) }}
{{- end }}
{{- $lock := printf "%s/input.lock" (clean $block.lockDir) }}
{{- if ne (clean $block.inputLock) $lock }}
{{- fail (printf "%s.inputLock: %q is not input.lock in lockDir; write %q" $at $block.inputLock $lock) }}
{{- end }}
{{- $folders := list
      (list "source" (printf "%s/source" $block.appDir))
      (list "inputs" (printf "%s/%s" $block.appDir $block.inputs))
      (list "outputs" (printf "%s/%s" $block.appDir $block.outputs))
      (list "lockDir" $block.lockDir)
      (list "logName" (dir $block.logName))
      (list "publishPath" $block.publishPath) }}
{{- range $index, $one := $folders }}
{{- range $other := slice $folders 0 $index }}
{{- $a := printf "%s/" (trimSuffix "/" (clean (last $one))) }}
{{- $b := printf "%s/" (trimSuffix "/" (clean (last $other))) }}
{{- if or (hasPrefix $a $b) (hasPrefix $b $a) }}
{{- fail (printf "%s.%s: its folder %s and that of %s (%s) lie in one another; give each its own folder" $at (first $one) (clean (last $one)) (first $other) (clean (last $other))) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "clara.check.workflow" -}}
{{- $at := printf "workflows.%s" .id }}{{ $known := .known }}{{ $stages := .workflow.stages }}
{{- $count := len $stages }}
{{- range $key, $expected := dict "waitLocks" $count "args" $count "ioFolders" (add1 $count) }}
{{- $found := len (get $.workflow $key) }}
{{- if ne $found (int $expected) }}
{{- $why := ternary "; the last is the folder of the result" "" (eq $key "ioFolders") }}
{{- fail (printf "%s.%s: %s has %d entries, expected %d for %d stages%s" $at $key $key $found (int $expected) $count $why) }}
{{- end }}
{{- end }}
{{- range $stages }}
{{- if not (hasKey $known .) }}
{{- fail (printf "%s.stages: no stage %q is defined under 'stages:'; add it with `clara-wf cs %s`" $at . .) }}
{{- end }}
{{- end }}
{{- include "clara.check.locks" (dict "at" $at "workflow" .workflow) }}
{{- include "clara.check.folders" (dict "at" $at "workflow" .workflow) }}
{{- end }}

{{/* Every awaited lock is published, and nobody waits for himself through others. */}}
{{- define "clara.check.locks" -}}
{{- $at := .at }}{{ $stages := .workflow.stages }}
{{- range $index, $entry := .workflow.waitLocks }}
{{- range $lock := (include "clara.locks" $entry | fromJsonArray) }}
{{- if not (or (eq $lock "input.lock") (has (trimSuffix ".lock" $lock) $stages)) }}
{{- fail (printf "%s.waitLocks[%d]: %s waits for %s, which no stage of it publishes" $at $index (index $stages $index) $lock) }}
{{- end }}
{{- end }}
{{- end }}
{{- $before := include "clara.upstream" .workflow | fromJson }}
{{- range $stages }}
{{- if has . (get $before .) }}
{{- fail (printf "%s.waitLocks: %s waits for itself, through the stages it waits for; one of them has to begin" $at .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Every folder is written by somebody whom its reader waits for. */}}
{{- define "clara.check.folders" -}}
{{- $at := .at }}{{ $stages := .workflow.stages }}
{{- $input := include "clara.inputFolder" .workflow }}
{{- $before := include "clara.upstream" .workflow | fromJson }}
{{- range $index, $entry := .workflow.ioFolders }}
{{- range $folder := (include "clara.folders" $entry | fromJsonArray) }}
{{- $writer := first (splitList "/" $folder) }}
{{- if eq $index (len $stages) }}
{{- if or (ne (base $folder) "output") (not (has $writer $stages)) }}
{{- fail (printf "%s.ioFolders[%d]: the result is a folder that a stage writes, found %q" $at $index $folder) }}
{{- end }}
{{- else if ne $folder $input }}
{{- $reader := index $stages $index }}
{{- if or (ne (base $folder) "output") (not (has $writer $stages)) }}
{{- fail (printf "%s.ioFolders[%d]: nobody writes %q; the job's input is %q" $at $index $folder $input) }}
{{- end }}
{{- if not (has $writer (get $before $reader)) }}
{{- fail (printf "%s.ioFolders[%d]: %s reads %q but does not wait for %s; add '%s.lock' to its waitLocks" $at $index $reader $folder $writer $writer) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* By stage, all stages it waits for, directly or through others. */}}
{{- define "clara.upstream" -}}
{{- $workflow := . }}{{ $before := dict }}
{{- range $index, $stage := .stages }}
{{- $direct := list }}
{{- range $lock := (include "clara.locks" (index $workflow.waitLocks $index) | fromJsonArray) }}
{{- if ne $lock "input.lock" }}{{ $direct = append $direct (trimSuffix ".lock" $lock) }}{{ end }}
{{- end }}
{{- $_ := set $before $stage $direct }}
{{- end }}
{{- range $workflow.stages }}
{{- range $stage := $workflow.stages }}
{{- $all := get $before $stage }}
{{- range (get $before $stage) }}{{ $all = concat $all (get $before . | default list) }}{{ end }}
{{- $_ := set $before $stage (uniq $all) }}
{{- end }}
{{- end }}
{{- toJson $before }}
{{- end }}
