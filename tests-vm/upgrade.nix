# A machine is switched to a newer configuration while events flow, and nothing is lost.
{ lib, ... }:
let
  # What the newer configuration changes.
  changed = [
    "apache-kafka.service"
    "flight-ingester.service"
    "flight-producer.service"
    "kafka-topics.service"
  ];
in
{
  name = "upgrade";

  nodes.machine =
    { config, ... }:
    {
      imports = [
        ../nixos/profiles/stack.nix
        ./lib/pipeline-only.nix
      ];

      specialisation.newer.configuration.services.contrail = {
        kafka.heapMiB = 384;
        kafka.topics.positions.retentionMs = 24 * 60 * 60 * 1000;
        ingester.settings.batch.linger_ms = 100;
      };

      # Their folders must be in the store. The newer configuration itself has no newer one.
      environment.etc."contrail-test/newer-units" = lib.mkIf (config.specialisation ? newer) {
        text = lib.concatMapStrings (
          name: "${config.specialisation.newer.configuration.systemd.units.${name}.unit}\n"
        ) changed;
      };
    };

  testScript =
    { nodes, ... }:
    let
      inherit (nodes.machine.services) contrail;
      newer = nodes.machine.specialisation.newer.configuration;
      units = lib.genAttrs changed (name: "${newer.systemd.units.${name}.unit}");
      describe = "${nodes.machine.services.apache-kafka.package}/bin/kafka-topics.sh --bootstrap-server ${contrail.endpoints.kafka} --describe --topic flight.positions";
    in
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "presence" "flow" "switching" ] ''
      platform = Platform(machine, contrail="${contrail.command}/bin/contrail")

      start_all()

      with subtest("events flow"):
          events_flow(platform)
          assert "retention.ms=604800000" in machine.succeed("${describe}")

      with subtest("the machine is switched"):
          before = platform.wait_for_rows(0)
          ingester = machine.get_unit_property("flight-ingester.service", "ExecStart")
          switch(
              machine,
              "${nodes.machine.system.build.toplevel}/specialisation/newer",
              ${builtins.toJSON units},
          )
          platform.wait_until_ready()

      with subtest("the newer configuration is in force"):
          machine.wait_for_unit("kafka-topics.service")
          assert "retention.ms=86400000" in machine.succeed("${describe}")
          assert machine.get_unit_property("flight-ingester.service", "ExecStart") != ingester

      with subtest("events go on flowing, and every one is accounted for"):
          platform.wait_for_rows(max(before, platform.wait_for_rows(0)))
          report = platform.verify("all")
          assert report["ok"], report["problems"]
    '';
}
