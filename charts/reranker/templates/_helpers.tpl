{{/* Name of the object, its pods and Services. */}}
{{- define "reranker.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{/* Labels by which Services and policies find the pods: the operator gives its pods the same. */}}
{{- define "reranker.selector" -}}
app.kubernetes.io/name: reranker
app.kubernetes.io/instance: {{ include "reranker.name" . }}
app.kubernetes.io/component: server
{{- end }}

{{/* Labels of every object of the chart. */}}
{{- define "reranker.labels" -}}
{{ include "reranker.selector" . }}
app.kubernetes.io/part-of: reranker
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of the pods of `helm test`. */}}
{{- define "reranker.testLabels" -}}
{{ include "reranker.labels" . | replace "component: server" "component: test" }}
{{- end }}

{{/* The spec of a RerankerDeployment: the values, with what the chart decides. */}}
{{- define "reranker.spec" -}}
{{- $spec := omit .Values "operator" "name" "dashboard" "test" "global" | deepCopy }}
{{- if not (or $spec.image.tag $spec.image.digest) }}
{{- $build := eq $spec.accelerator.type "nvidia" | ternary "-cuda" "" }}
{{- $_ := set $spec.image "tag" (print .Chart.AppVersion $build) }}
{{- end }}
{{- if not $spec.autoscaling.mode }}
{{- $_ := set $spec.autoscaling "mode" (.Values.operator.enabled | ternary "builtin" "hpa") }}
{{- end }}
{{- with $spec.networkPolicy.from }}
{{- $tests := dict "podSelector" (dict "matchLabels" (dict
      "app.kubernetes.io/instance" (include "reranker.name" $) "app.kubernetes.io/component" "test")) }}
{{- $_ := set $spec.networkPolicy "from" (append . $tests) }}
{{- end }}
{{- toYaml $spec }}
{{- end }}

{{/* Name of the Secret with the certificate; empty without TLS. */}}
{{- define "reranker.tlsSecret" -}}
{{- with .Values.tls }}{{ .secretName | default (printf "%s-tls" (include "reranker.name" $)) }}{{ end }}
{{- end }}

{{- define "reranker.image" -}}
{{- with (include "reranker.spec" . | fromYaml).image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "reranker.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "reranker.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
