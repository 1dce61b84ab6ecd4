{{/* What several templates say in the same words. Decides names, labels and what every pod has. */}}

{{/* The release's own name: what every object's name begins with. */}}
{{- define "fased.fullname" -}}
{{- if contains "fased" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-fased" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, by which pods are selected. Takes (dict "root" $ "component" NAME). */}}
{{- define "fased.selector" -}}
app.kubernetes.io/name: fased
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels of an object. Takes (dict "root" $ "component" NAME). */}}
{{- define "fased.labels" -}}
{{ include "fased.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fased
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- define "fased.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}

{{/* The Secret with the tokens: the one that was named, or the chart's own. */}}
{{- define "fased.tokenSecret" -}}
{{- .Values.tokens.existingSecret | default (printf "%s-tokens" (include "fased.fullname" .)) -}}
{{- end -}}

{{/* Pods that are members of the bus's consumer groups. Each has a name of its own for life, so
     that Kafka gives a pod that was restarted its partitions back instead of sharing them out. */}}
{{- define "fased.consumers" -}}
channels router scheduler executor
{{- end -}}

{{/* Services that ask the Kubernetes API. */}}
{{- define "fased.apiCallers" -}}
channels executor operator
{{- end -}}

{{- define "fased.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fased.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The variable with the database's address. */}}
{{- define "fased.databaseEnv" -}}
- name: FASED_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret: name the Secret that holds the database's URL (kubectl create secret generic fased-database --from-literal=url=postgresql://…)" .Values.database.existingSecret }}
      key: {{ .Values.database.key }}
{{- end -}}

{{/* The variables that say how Kafka is reached; none where the bus is a log in PostgreSQL. */}}
{{- define "fased.kafkaEnv" -}}
{{- with .Values.kafka }}
{{- if .bootstrap }}
- name: FASED_KAFKA_BOOTSTRAP
  value: {{ .bootstrap | quote }}
- name: FASED_KAFKA_REPLICAS
  value: {{ .replicas | quote }}
{{- if .sasl.mechanism }}
- name: FASED_KAFKA_SASL_MECHANISM
  value: {{ .sasl.mechanism }}
{{- range $variable, $key := dict "USERNAME" "username" "PASSWORD" "password" }}
- name: FASED_KAFKA_{{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ required "kafka.existingSecret: name the Secret with the keys username and password" $.Values.kafka.existingSecret }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- if .tls.enabled }}
- name: FASED_KAFKA_TLS
  value: "true"
{{- range $variable, $key := dict "CA" .tls.caKey "CERT" .tls.certKey "KEY" .tls.keyKey }}
{{- if $key }}
- name: FASED_KAFKA_TLS_{{ $variable }}_FILE
  value: /etc/fased/kafka/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whether files of the Kafka Secret are mounted: "true" or nothing. */}}
{{- define "fased.kafkaFiles" -}}
{{- with .Values.kafka -}}
{{- if and .bootstrap .tls.enabled (or .tls.caKey .tls.certKey .tls.keyKey) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Folders that containers see beside the image. */}}
{{- define "fased.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "fased.kafkaFiles" . }}
- name: kafka
  mountPath: /etc/fased/kafka
  readOnly: true
{{- end }}
{{- end -}}

{{- define "fased.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if include "fased.kafkaFiles" . }}
- name: kafka
  secret:
    secretName: {{ required "kafka.existingSecret: name the Secret with the files of kafka.tls" .Values.kafka.existingSecret }}
{{- end }}
{{- end -}}
