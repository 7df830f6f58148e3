# Confluent's schema registry, which keeps its schemas in a topic of Kafka. It is under the Confluent
# Community License.
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
  name = "schema-registry";
  program = "schema-registry-start";
  option = "schemaRegistry";
  description = "Schema registry";
  port = 8081;
  variable = "SCHEMA_REGISTRY";
  after = [ "apache-kafka.service" ];

  brings.endpoints.registry = lib.mkDefault "http://${contrail.localAddress}:${toString contrail.schemaRegistry.port}";

  settings = {
    "host.name" = contrail.localAddress;
    "kafkastore.bootstrap.servers" = "PLAINTEXT://${contrail.endpoints.kafka}";
    "kafkastore.topic" = "_schemas";
    "kafkastore.topic.replication.factor" = 1;
    # A schema that would make records unreadable is refused.
    "schema.compatibility.level" = "backward";
  };
}
