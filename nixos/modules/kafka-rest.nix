# Confluent's REST proxy for Kafka. It is under the Confluent Community License.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  contrail = config.services.contrail;
in
import ./lib/confluent.nix { inherit config lib pkgs; } {
  name = "kafka-rest";
  program = "kafka-rest-start";
  option = "kafkaRest";
  description = "REST proxy for Kafka";
  port = 8082;
  variable = "KAFKAREST";
  after = [
    "apache-kafka.service"
    "schema-registry.service"
  ];

  settings = {
    "id" = "kafka-rest-${config.networking.hostName}";
    "bootstrap.servers" = "PLAINTEXT://${contrail.endpoints.kafka}";
    "schema.registry.url" = contrail.endpoints.registry;
    # Records of a transaction that was aborted are nobody's to see.
    "consumer.isolation.level" = "read_committed";
  };
}
