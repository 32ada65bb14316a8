{{/* Parts of the pod template that a Deployment of the chart has in place of the operator's: the same. */}}

{{- define "plain.modelArgument" -}}
{{- $index := index . 0 }}
{{- $name := (index . 1).name }}
{{- with (index . 1).source }}
{{- if .hub }}{{ printf "%s=hf:%s@%s" $name .hub.repo .hub.revision }}
{{- else if .pvc }}{{ printf "%s=/models/%d%s" $name $index (.pvc.path | default "/" | trimSuffix "/") }}
{{- else if .oci }}{{ printf "%s=/models/%d" $name $index }}
{{- else if .baked.path }}{{ printf "%s=%s" $name .baked.path }}
{{- else }}{{ $name }}
{{- end }}
{{- end }}
{{- end }}

{{- define "plain.args" -}}
{{- $spec := include "reranker.spec" . | fromYaml }}
{{- $server := $spec.server -}}
- serve
{{- range $index, $model := $spec.models }}
- --model
- {{ include "plain.modelArgument" (list $index $model) | quote }}
{{- end }}
{{- range $model := $spec.models }}
{{- range .aliases }}
- --alias
- {{ printf "%s=%s" . $model.name | quote }}
{{- end }}
{{- end }}
{{- if eq $spec.accelerator.type "cpu" }}
- --device
- cpu
{{- end }}
- --dtype
- {{ $server.dtype }}
{{- with $server.maxBatchTokens }}
- --max-batch-tokens
- {{ int . | quote }}
{{- end }}
- --max-queue-seconds
- {{ divf $server.maxQueueMillis 1000 | quote }}
- --grpc-listen
- 0.0.0.0:{{ int $server.grpcPort }}
- --http-listen
- 0.0.0.0:{{ int $server.httpPort }}
- --admin-listen
- 0.0.0.0:{{ int $server.adminPort }}
- --max-connection-age-seconds
- {{ int $server.maxConnectionAgeSeconds | quote }}
- --log-format
- {{ $server.logFormat }}
- --shutdown-grace-seconds
- {{ include "plain.requestSeconds" . | quote }}
{{- if $spec.collections.embedded }}
- --data-dir
- /data
{{- end }}
{{- if $spec.auth.apiKeysSecretRef }}
- --api-keys-file
- /etc/reranker/api-keys/keys
{{- end }}
{{- if $spec.tls }}
- --tls-cert
- /etc/reranker/tls/tls.crt
- --tls-key
- /etc/reranker/tls/tls.key
{{- end }}
{{- range $server.extraArgs }}
- {{ quote . }}
{{- end }}
{{- end }}

{{- define "plain.requestSeconds" -}}
{{ divf .Values.server.maxRequestMillis 1000 | ceil | int }}
{{- end }}

{{/* The source `hub` of a model, as JSON; all have the same endpoint and token. */}}
{{- define "plain.hub" -}}
{{- $hub := dict }}
{{- range .Values.models }}{{ $hub = .source.hub | default $hub }}{{ end }}
{{- toJson $hub }}
{{- end }}

{{- define "plain.env" -}}
{{- with include "plain.hub" . | fromJson }}
- {name: HF_HOME, value: /cache}
{{- with .endpoint }}
- {name: HF_ENDPOINT, value: {{ quote . }}}
{{- end }}
{{- with .tokenSecretRef }}
- {name: HF_TOKEN, valueFrom: {secretKeyRef: {{ toJson . }}}}
{{- end }}
{{- end }}
{{- with .Values.pod.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "plain.resources" -}}
{{- $resources := deepCopy .Values.resources }}
{{- with .Values.accelerator }}
{{- if and (eq .type "nvidia") .count }}
{{- $device := dict .resourceName (int .count | toString) }}
{{- $_ := set $resources "limits" (merge $device ($resources.limits | default dict)) }}
{{- end }}
{{- end }}
{{- with .Values.resourceClaims }}
{{- $claims := list }}
{{- range . }}{{ $claims = append $claims (pick . "name") }}{{ end }}
{{- $_ := set $resources "claims" ($resources.claims | default $claims) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "plain.probe" -}}
{{- $tls := index . 0 -}}
httpGet: {path: {{ index . 1 }}, port: admin, scheme: {{ ternary "HTTPS" "HTTP" (ne $tls "") }}}
periodSeconds: {{ index . 2 }}
timeoutSeconds: 3
failureThreshold: {{ index . 3 }}
{{- end }}

{{- define "plain.volumes" -}}
{{- $name := include "reranker.name" . }}
{{- $hub := include "plain.hub" . | fromJson -}}
- {name: tmp, emptyDir: {}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
{{- if and $hub .Values.cache.pvc }}
- name: cache
  persistentVolumeClaim: {claimName: {{ .Values.cache.pvc.claimName | default (print $name "-cache") }}}
{{- else if $hub }}
- name: cache
  emptyDir: {sizeLimit: {{ .Values.cache.sizeLimit | quote }}}
{{- end }}
{{- range $index, $model := .Values.models }}
{{- with .source.pvc }}
- name: model-{{ $index }}
  persistentVolumeClaim: {claimName: {{ .claimName }}, readOnly: true}
{{- end }}
{{- with .source.oci }}
- name: model-{{ $index }}
  image: {reference: {{ quote .image }}, pullPolicy: {{ .pullPolicy | default "IfNotPresent" }}}
{{- end }}
{{- end }}
{{- if .Values.collections.embedded }}
- name: data
  persistentVolumeClaim: {claimName: {{ $name }}-data}
{{- end }}
{{- with .Values.auth.apiKeysSecretRef }}
- name: api-keys
  secret: {secretName: {{ . }}}
{{- end }}
{{- with include "reranker.tlsSecret" . }}
- name: tls
  secret: {secretName: {{ . }}}
{{- end }}
{{- with .Values.pod.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "plain.volumeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- if include "plain.hub" . | fromJson }}
- {name: cache, mountPath: /cache}
{{- end }}
{{- range $index, $model := .Values.models }}
{{- if or .source.pvc .source.oci }}
- {name: model-{{ $index }}, mountPath: /models/{{ $index }}, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.collections.embedded }}
- {name: data, mountPath: /data}
{{- end }}
{{- if .Values.auth.apiKeysSecretRef }}
- {name: api-keys, mountPath: /etc/reranker/api-keys, readOnly: true}
{{- end }}
{{- if .Values.tls }}
- {name: tls, mountPath: /etc/reranker/tls, readOnly: true}
{{- end }}
{{- with .Values.pod.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
