{{/* What several templates say: names, images, the settings file, and the ports in it. */}}

{{- define "haproxy-sidecar.fullname" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- /* "-settings-" and a hash follow, and 63 is what a name may have. */ -}}
{{- if gt (len $name) 44 -}}
{{- fail (printf "the release's name %s is too long: choose one of at most %d characters" .Release.Name (sub 44 (len $name) | add (len .Release.Name))) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Of what is in no namespace: releases of one name may be in several. */}}
{{- define "haproxy-sidecar.clusterName" -}}
{{ .Release.Namespace }}:{{ include "haproxy-sidecar.fullname" . }}
{{- end -}}

{{- define "haproxy-sidecar.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "haproxy-sidecar.labels" -}}
{{ include "haproxy-sidecar.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Called with a list of the values of an image and its default tag. */}}
{{- define "haproxy-sidecar.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{- define "haproxy-sidecar.settings" -}}
{{- $name := include "haproxy-sidecar.fullname" . -}}
{{- $own := list
  (list "haproxy" "socket" "/run/haproxy/admin.sock" "")
  (list "haproxy" "config" "/run/haproxy/haproxy.cfg" "")
  (list "haproxy" "state_file" "/run/haproxy/servers.state" "")
  (list "source" "kind" "kubernetes" "")
  (list "timing" "grace" (printf "%ds" (int .Values.terminationGracePeriodSeconds)) "and set terminationGracePeriodSeconds")
  (list "kubernetes" "lease" (dict "name" $name) "")
-}}
{{- if not .Values.hostNetwork -}}
{{- $own = append $own (list "kubernetes" "publish_service" (printf "%s/%s" .Release.Namespace $name) "") -}}
{{- end -}}
{{- if .Values.tls.secretName -}}
{{- $own = append $own (list "web" "default_certificate" "/etc/haproxy-sidecar-tls" "or tls.secretName") -}}
{{- end -}}
{{- if .Values.externalCertificates -}}
{{- $own = append $own (list "web" "external_certificates" true "") -}}
{{- end -}}
{{- $settings := deepCopy .Values.settings -}}
{{- range $own -}}
{{- $section := get $settings (index . 0) | default dict -}}
{{- if hasKey $section (index . 1) -}}
{{- fail (printf "settings.%s.%s: the chart sets it to %s; leave it out%s" (index . 0) (index . 1) (index . 2 | toJson) (index . 3 | empty | ternary "" (printf ", %s" (index . 3)))) -}}
{{- end -}}
{{- $_ := set $section (index . 1) (index . 2) -}}
{{- $_ := set $settings (index . 0) $section -}}
{{- end -}}
# The settings of the router. All keys are explained in docs/reference.md.
{{ toYaml $settings }}
{{- end -}}

{{/* A ConfigMap for each version of the settings: pods never read those of their successors. */}}
{{- define "haproxy-sidecar.settingsName" -}}
{{ include "haproxy-sidecar.fullname" . }}-settings-{{ include "haproxy-sidecar.settings" . | sha256sum | trunc 8 }}
{{- end -}}

{{/* The number of a port, of "0.0.0.0:8080" at the key of a setting: called with a list of both. */}}
{{- define "haproxy-sidecar.portOf" -}}
{{- $port := regexFind ":[0-9]+$" (index . 1 | toString) -}}
{{- if not $port -}}
{{- fail (printf "settings.%s: %s is not an address with a port, which the chart needs; write for example \"0.0.0.0:8405\"" (index . 0) (index . 1 | toJson)) -}}
{{- end -}}
{{ trimPrefix ":" $port }}
{{- end -}}

{{/* What clients connect to, as a JSON list of {first, last}: pools, then listeners. */}}
{{- define "haproxy-sidecar.clientPorts" -}}
{{- $found := list -}}
{{- range .Values.settings.pools -}}
{{- range (kindIs "slice" .ports | ternary .ports (list .ports)) -}}
{{- $ends := splitList "-" (toString . | nospace) -}}
{{- $found = append $found (dict "first" (first $ends | int) "last" (last $ends | int)) -}}
{{- end -}}
{{- end -}}
{{- range .Values.settings.listeners -}}
{{- range .bind -}}
{{- $port := include "haproxy-sidecar.portOf" (list "listeners[].bind" .) | int -}}
{{- $found = append $found (dict "first" $port "last" $port) -}}
{{- end -}}
{{- end -}}
{{ uniq $found | toJson }}
{{- end -}}
