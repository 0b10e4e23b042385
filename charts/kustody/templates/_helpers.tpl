{{/* The name of the installation: prefix of everything that belongs to it. */}}
{{- define "kustody.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kustody.selector" -}}
app.kubernetes.io/name: kustody
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kustody.labels" -}}
{{ include "kustody.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Whether a pod has what admission gives it, in CEL: our mark and our agent. */}}
{{- define "kustody.admitted" -}}
has(object.metadata.annotations) && 'kustody.dev/injected' in object.metadata.annotations && has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == 'kustody-agent')
{{- end -}}

{{- define "kustody.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What Pod Security "restricted" asks of a pod, and more. */}}
{{- define "kustody.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kustody.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where the pods of one role go: a dict of root, role, hash (the label that tells one rollout from another), values, and other:
the role whose nodes matter more than its own, since one stands by for the other. */}}
{{- define "kustody.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  # A cluster of one node runs all of them.
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "kustody.selector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.role }}
  matchLabelKeys: [{{ $.hash }}]
{{- end }}
# The scheduler reads none of the above where nodes have no zone, and this everywhere.
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    {{- range $role, $weight := ternary (dict .role 50 (.other | default "") 100) (dict .role 100) (hasKey . "other") }}
    - weight: {{ $weight }}
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "kustody.selector" $.root | nindent 12 }}
            app.kubernetes.io/component: {{ $role }}
    {{- end }}
{{- end -}}

{{/* The container of one role: a dict of root, role and resources. */}}
{{- define "kustody.container" -}}
name: {{ .role }}
image: {{ include "kustody.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
- run
- --role={{ .role }}
- --name={{ include "kustody.fullname" .root }}
- --agent-image={{ .root.Values.agent.image.repository }}:{{ .root.Values.agent.image.tag | default .root.Chart.AppVersion }}
- --audit-volume={{ ternary "empty-dir" "persistent-volume-claim" (eq .root.Values.broker.audit.volume.type "emptyDir") }}
{{- if eq .role "controller" }}
- --pods-without-secrets={{ lower .root.Values.controller.podsWithoutSecrets }}
{{- end }}
- --certificates={{ ternary "cert-manager" "controller" (eq .root.Values.certificates.source "certManager") }}
env:
- name: KUSTODY_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: KUSTODY_POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: RUST_LOG, value: {{ .root.Values.logLevel | quote }}}
ports:
- {name: admin, containerPort: 8080}
livenessProbe:
  httpGet: {path: /livez, port: admin}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 2
resources: {{- toYaml .resources | nindent 2 }}
securityContext: {{- include "kustody.containerSecurity" .root | nindent 2 }}
{{- end -}}

{{/* Copies a mounted root key to where only the operator's user can read it. */}}
{{- define "kustody.rootKeyInit" -}}
- name: root-key
  image: {{ include "kustody.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [install-root-key, --from=/etc/kustody/mounted/key, --to=/etc/kustody/root-key/key]
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  securityContext: {{- include "kustody.containerSecurity" . | nindent 4 }}
  volumeMounts:
  - {name: root-key-mounted, mountPath: /etc/kustody/mounted, readOnly: true}
  - {name: root-key, mountPath: /etc/kustody/root-key}
{{- end -}}

{{- define "kustody.rootKeyVolumes" -}}
- name: root-key-mounted
  {{- if .Values.rootKey.secretName }}
  secret: {secretName: {{ .Values.rootKey.secretName }}, items: [{key: {{ .Values.rootKey.secretKey }}, path: key}]}
  {{- else }}
  {{- toYaml .Values.rootKey.volume | nindent 2 }}
  {{- end }}
- name: root-key
  emptyDir: {medium: Memory, sizeLimit: 64Ki}
{{- end -}}
