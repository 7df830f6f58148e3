#!/bin/bash
# Stands in for the scripts of Kafka's distribution, of which Maven has the jars alone: the name that this
# is called by tells which tool.
set -eu
own=$(dirname "$(dirname "$(realpath "$0")")")
case $(basename "$0") in
  kafka-storage.sh) tool=kafka.tools.StorageTool ;;
  kafka-topics.sh) tool=org.apache.kafka.tools.TopicCommand ;;
  kafka-configs.sh) tool=kafka.admin.ConfigCommand ;;
  *) echo "unknown tool $0" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086
exec "$own/../jre/bin/java" ${KAFKA_HEAP_OPTS:--Xmx128m} ${KAFKA_JVM_PERFORMANCE_OPTS:-} -cp "$own/libs/*" "$tool" "$@"
