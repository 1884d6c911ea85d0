{{/* Names and labels. Names that a user chooses are quoted: a name may be of digits alone, and is no number then. */}}

{{- define "otc.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Called with (dict "root" $ "component" "daemon"), like most of the templates below. */}}
{{- define "otc.selector" -}}
app.kubernetes.io/name: otc-assets
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "otc.labels" -}}
{{ include "otc.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Metadata of an object of a component. */}}
{{- define "otc.metadata" -}}
name: {{ include "otc.fullname" .root }}-{{ .component }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "otc.labels" . | nindent 2 }}
{{- end -}}

{{/* What all pods have in common. */}}

{{- define "otc.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "otc.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "otc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Metadata of a pod template. "dagster": the pod is replaced when dagster.yaml changes. */}}
{{- define "otc.podMetadata" -}}
labels:
  {{- include "otc.labels" . | nindent 2 }}
{{- $annotations := deepCopy .root.Values.podAnnotations -}}
{{- if .dagster }}{{ $_ := set $annotations "checksum/config" (include "otc.dagsterYaml" .root | sha256sum) }}{{ end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A pod's spec without its containers. "account": whose service account, if not the component's.
"token": it calls the Kubernetes API. "dagster": with dagster.yaml. "ephemeral": without the volume. */}}
{{- define "otc.podSpec" -}}
serviceAccountName: {{ include "otc.fullname" .root }}-{{ default .component .account }}
automountServiceAccountToken: {{ default false .token }}
# The variables that Kubernetes makes of a Service named "otc" would be taken for settings: OTC_PORT.
enableServiceLinks: false
securityContext:
  {{- include "otc.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "otc.placement" .root }}
volumes:
  {{- include "otc.volumes" . | nindent 2 }}
{{- end -}}

{{- define "otc.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "otc.container" -}}
image: {{ include "otc.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "otc.containerSecurity" . | nindent 2 }}
{{- end -}}

{{/* OTC_HOME and /tmp are the only writable folders. dagster.yaml is in a read-only DAGSTER_HOME. */}}
{{- define "otc.volumes" -}}
- name: home
  {{- if and .root.Values.home.enabled (not .ephemeral) }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-home" (include "otc.fullname" .root)) .root.Values.home.existingClaim | quote }}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: tmp
  emptyDir: {}
{{- if .dagster }}
- name: dagster
  configMap:
    name: {{ include "otc.fullname" .root }}-dagster
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "otc.mounts" -}}
- name: home
  mountPath: /var/lib/otc-assets
- name: tmp
  mountPath: /tmp
{{- if .dagster }}
- name: dagster
  mountPath: /etc/dagster
  readOnly: true
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Variables. "database": the key of the URL. "finra", "archive", "alerts": whether the container needs them.
"dagster": it reads dagster.yaml, whose compute_logs depend on the address of the archive. */}}
{{- define "otc.env" -}}
{{- $values := .root.Values -}}
- name: OTC_HOME
  value: /var/lib/otc-assets
{{- if .dagster }}
- name: DAGSTER_HOME
  value: /etc/dagster
{{- end }}
{{- range $name, $value := $values.settings }}
- name: {{ $name }}
  {{- /* A number of a file is a float, which toString writes with an exponent from a million on. */}}
  value: {{ ternary ($value | toJson) ($value | toString) (kindIs "float64" $value) | quote }}
{{- end }}
{{- with include "otc.publicUrl" .root }}
- name: OTC_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- with .database }}
{{- include "otc.secretEnv" (list "OTC_DATABASE_URL" $values.secrets.database.name .) }}
{{- include "otc.secretEnv" (list "OTC_DAGSTER_STORAGE_URL" $values.secrets.dagsterStorage.name .) }}
{{- end }}
{{- if .finra }}
{{- with $values.secrets.finra }}
{{- include "otc.secretEnv" (list "OTC_FINRA_CLIENT_ID" .name .clientIdKey) }}
{{- include "otc.secretEnv" (list "OTC_FINRA_CLIENT_SECRET" .name .clientSecretKey) }}
{{- end }}
{{- end }}
{{- if .alerts }}
{{- include "otc.secretEnv" (list "OTC_ALERT_URL" $values.secrets.alerts.name $values.secrets.alerts.key) }}
{{- end }}
{{- if and (or .archive .dagster) $values.archive.url }}
- name: OTC_ARCHIVE_URL
  value: {{ $values.archive.url }}
{{- end }}
{{- if and (or .archive .dagster) (include "otc.usesS3" .root) }}
{{- range $name, $value := $values.archive.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Not empty if the archive or the exported files are on S3. */}}
{{- define "otc.usesS3" -}}
{{- if or .Values.archive.url (hasPrefix "s3://" (toString (default "" .Values.settings.OTC_EXPORT_URL))) }}yes{{ end -}}
{{- end -}}

{{- define "otc.secretEnv" -}}
{{- if index . 1 }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 | quote }}
      key: {{ index . 2 | quote }}
{{- end }}
{{- end -}}

{{- define "otc.envFrom" -}}
{{- if and .archive (include "otc.usesS3" .root) .root.Values.secrets.archive.name }}
envFrom:
  - secretRef:
      name: {{ .root.Values.secrets.archive.name | quote }}
{{- end }}
{{- end -}}

{{- define "otc.publicUrl" -}}
{{- with .Values.webserver -}}
{{- if .publicUrl -}}
{{ .publicUrl }}
{{- else if .ingress.enabled -}}
{{ ternary "https" "http" (not (empty .ingress.tlsSecretName)) }}://{{ .ingress.host }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Dagster. */}}

{{/* The pods and jobs of runs, as dagster-k8s expects them. Their arguments contain dagster.yaml. */}}
{{- define "otc.runConfig" -}}
{{- $of := dict "root" . "component" "run" "database" .Values.secrets.database.writerKey "finra" true "archive" true "token" .Values.runs.stepPods.enabled -}}
container_config:
  # Dagster sets arguments only, "dagster api ...", which the image's entrypoint would get.
  command: [env]
  resources:
    {{- toYaml .Values.runs.resources | nindent 4 }}
  securityContext:
    {{- include "otc.containerSecurity" . | nindent 4 }}
  env:
    {{- include "otc.env" $of | nindent 4 }}
  {{- include "otc.envFrom" $of | nindent 2 }}
  volumeMounts:
    {{- include "otc.mounts" $of | nindent 4 }}
pod_template_spec_metadata:
  labels:
    {{- include "otc.selector" $of | nindent 4 }}
  {{- with .Values.runs.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
pod_spec_config:
  {{- include "otc.podSpec" $of | nindent 2 }}
  terminationGracePeriodSeconds: {{ .Values.runs.terminationGracePeriodSeconds }}
job_metadata:
  labels:
    {{- include "otc.selector" $of | nindent 4 }}
job_spec_config:
  activeDeadlineSeconds: {{ .Values.runs.activeDeadlineSeconds }}
  ttlSecondsAfterFinished: {{ .Values.runs.ttlSecondsAfterFinished }}
{{- end -}}

{{- define "otc.runLauncher" -}}
module: dagster_k8s
class: K8sRunLauncher
config:
  load_incluster_config: true
  job_namespace: {{ .Release.Namespace | quote }}
  service_account_name: {{ include "otc.fullname" . }}-run
  instance_config_map: {{ include "otc.fullname" . }}-dagster
  dagster_home: /etc/dagster
  image_pull_policy: {{ .Values.image.pullPolicy }}
  run_k8s_config:
    {{- include "otc.runConfig" . | nindent 4 }}
  # Whoever can launch runs can also set their tags. The tag dagster-k8s/config may change the resources, and nothing
  # else: no other image, service account or volume.
  only_allow_user_defined_k8s_config_fields:
    container_config:
      resources: true
  only_allow_user_defined_env_vars: []
{{- end -}}

{{/* dagster.yaml: the project's own, the changes of dagster.config, and what is different on Kubernetes. */}}
{{- define "otc.dagsterYaml" -}}
{{- $config := .Files.Get "files/dagster.yaml" | fromYaml -}}
{{- $config = mustMergeOverwrite $config (deepCopy .Values.dagster.config) -}}
{{- $_ := set $config "run_launcher" (include "otc.runLauncher" . | fromYaml) -}}
{{- $folder := dict "base_dir" "/var/lib/otc-assets/dagster" -}}
{{- $_ := set $config "local_artifact_storage" (dict "module" "dagster._core.storage.root" "class" "LocalArtifactStorage" "config" $folder) -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Network. */}}

{{/* The pods of a component, as a peer; called with (list $ "daemon"). */}}
{{- define "otc.peer" -}}
- podSelector:
    matchLabels:
      {{- include "otc.selector" (dict "root" (index . 0) "component" (index . 1)) | nindent 6 }}
{{- end -}}

{{/* Names, the database, and what networkPolicy.extraEgress adds. */}}
{{- define "otc.egress.common" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- if .Values.database.internal.enabled }}
- ports: [{port: 5432}]
  to:
    {{- include "otc.peer" (list . "database") | nindent 4 }}
{{- else }}
- ports: [{port: {{ .Values.networkPolicy.databasePort }}}]
  {{- with .Values.networkPolicy.databaseTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* FINRA, the archive, destinations of alerts. */}}
{{- define "otc.egress.https" -}}
- ports: [{port: 443}]
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        {{- with .Values.networkPolicy.httpsExcept }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
{{- end -}}
