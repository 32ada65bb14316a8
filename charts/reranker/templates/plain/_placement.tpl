{{/* How pods are replaced, and how they spread. */}}

{{/* Surge only where a pod asks for nothing of which a cluster has few. */}}
{{- define "plain.strategy" -}}
{{- $rollout := .Values.rollout }}
{{- $kind := $rollout.strategy }}
{{- $asked := include "plain.resources" . | fromYaml }}
{{- $names := concat (keys ($asked.limits | default dict)) (keys ($asked.requests | default dict)) }}
{{- if eq $kind "auto" }}
{{- $plenty := and (empty .Values.resourceClaims) (not (contains "/" (join "," $names))) }}
{{- $kind = empty .Values.collections.embedded | ternary ($plenty | ternary "surge" "inPlace") "recreate" }}
{{- end }}
{{- if eq $kind "recreate" -}}
type: Recreate
{{- else }}
{{- $surge := eq $kind "surge" | ternary 1 0 -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ hasKey $rollout "maxSurge" | ternary $rollout.maxSurge $surge }}
  maxUnavailable: {{ hasKey $rollout "maxUnavailable" | ternary $rollout.maxUnavailable (sub 1 $surge) }}
{{- end }}
{{- end }}

{{- define "plain.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "reranker.selector" . | nindent 6 }}
  matchLabelKeys: [pod-template-hash]
{{- end }}
