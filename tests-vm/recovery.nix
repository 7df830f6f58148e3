# Every service is killed while events flow, and every event is in the table once.
{ lib, ... }:
{
  name = "recovery";

  nodes.machine = {
    imports = [
      ../nixos/profiles/stack.nix
      ./lib/pipeline-only.nix
    ];
    # Some seconds are a long outage, and caught up with so slowly that it can be looked at.
    services.contrail.producer.settings.catch_up = {
      after_events = 5000;
      max_events_per_s = 800;
    };
  };

  testScript =
    { nodes, ... }:
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "flow" "recovery" ] ''
      platform = Platform(
          machine, contrail="${nodes.machine.services.contrail.command}/bin/contrail"
      )

      start_all()

      with subtest("events flow"):
          events_flow(platform)

      with subtest("services are killed"):
          survives_kills(platform, ("flight-producer", "flight-ingester", "flight-mock"), rounds=2)

      with subtest("the systems around are killed"):
          survives_kills(platform, ("clickhouse", "schema-registry", "apache-kafka"))

      with subtest("Kafka and ClickHouse are away for a while"):
          survives_an_outage(platform, "clickhouse", 5)
          survives_an_outage(platform, "apache-kafka", 5)

      with subtest("a service that hangs is started again by its watchdog"):
          pid = machine.get_unit_property("flight-producer.service", "MainPID")
          machine.succeed("systemctl kill --signal=SIGSTOP flight-producer.service")
          machine.wait_until_succeeds(
              f'test "$(systemctl show -P MainPID flight-producer.service)" != {pid}', timeout=120
          )
          platform.wait_until_ready()

      with subtest("a long outage is caught up beside live events"):
          catches_up_after_a_long_outage(platform, 25)

      with subtest("what is missing is found, and sent again"):
          gaps_are_found_and_mended(platform)

      with subtest("nothing became unreadable"):
          no_dead_letters(platform)

      with subtest("every event is accounted for"):
          report = platform.verify("all")
          assert report["ok"], report["problems"]
    '';
}
