{{- define "tandem.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tandem.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tandem.labels" -}}
{{ include "tandem.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tandem.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* Directories of the host that are written to, by distribution. */}}
{{- define "tandem.writable" -}}
{{- $d := .Values.distribution -}}
/opt
/var/lib
{{- if eq $d "auto" }}
/etc
{{- else if eq $d "k0s" }}
/etc/k0s
{{- else if eq $d "microk8s" }}
/var/snap/microk8s
{{- else if has $d (list "aks" "eks" "kind" "minikube" "vanilla") }}
{{ .Values.containerd.config | default "/etc/containerd/config.toml" | dir }}
{{- end }}
{{- end }}

{{/* The node of the pod that the token of a request is bound to, as a variable of an admission policy. */}}
{{- define "tandem.own" -}}
- name: own
  expression: >-
    has(request.userInfo.extra) && 'authentication.kubernetes.io/node-name' in request.userInfo.extra
    ? request.userInfo.extra['authentication.kubernetes.io/node-name'][0] : ''
{{- end }}
