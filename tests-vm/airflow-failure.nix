# The producer is stopped, and Airflow starts it again and mails what it saw. It may restart this unit, and
# nothing else. Events that are gone are sent again.
{ lib, pkgs, ... }:
{
  name = "airflow-failure";

  nodes.machine = {
    imports = [
      ../nixos/profiles/stack.nix
      ./lib/pipeline-only.nix
      ./lib/with-airflow.nix
    ];
    services.contrail.prometheus.enable = lib.mkForce true;
  };

  testScript =
    { nodes, ... }:
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "presence" "orchestration" ] ''
      platform = Platform(
          machine, contrail="${nodes.machine.services.contrail.command}/bin/contrail"
      )

      start_all()

      with subtest("everything starts"):
          for unit in ("airflow-api", "airflow-scheduler", "airflow-dag-processor"):
              machine.wait_for_unit(f"{unit}.service")
          platform.wait_until_ready()
          airflow = Airflow(platform)
          airflow.wait_for_dags({"producer_health", "monthly_archive", "data_quality"})

      def subjects() -> list[str]:
          """Of all mails about the producer, the newest first."""
          mails = json.loads(platform.curl("http://127.0.0.1:8025/api/v1/messages"))["messages"]
          return [mail["Subject"] for mail in mails if "flight-producer" in mail["Subject"]]

      with subtest("the producer is stopped, and runs again"):
          # While everything started, there may have been an incident.
          platform.wait_until_ready()
          before = subjects()
          producer_is_started_again(platform, airflow)

      with subtest("mails say so"):
          end = time.monotonic() + 60
          wanted = ["[contrail] flight-producer is well again", "[contrail] flight-producer is not well"]
          while (told := subjects())[:2] != wanted or len(told) < len(before) + 2:
              assert time.monotonic() < end, (told, before)
              time.sleep(1)

      with subtest("its user may restart the producer, and nothing else"):
          ask = "runuser -u airflow -- systemctl --no-ask-password"
          pid = machine.get_unit_property("flight-producer.service", "MainPID")
          machine.succeed(f"{ask} restart flight-producer.service")
          assert machine.get_unit_property("flight-producer.service", "MainPID") != pid
          machine.fail(f"{ask} stop flight-producer.service")
          machine.fail(f"{ask} restart flight-ingester.service")
          machine.succeed("systemctl is-active flight-producer.service flight-ingester.service")
          platform.wait_until_ready()

      with subtest("events that are gone are sent again"):
          gaps_are_repaired(platform, airflow)

      with subtest("Prometheus has Airflow's metrics"):
          statsd = "${lib.getExe' pkgs.prometheus-statsd-exporter "statsd_exporter"}"
          if present(machine, statsd, "Airflow's metrics, the StatsD exporter"):
              airflow_is_measured(
                  platform,
                  "http://127.0.0.1:${toString nodes.machine.services.contrail.prometheus.port}",
                  json.loads(r"""${lib.readFile ../grafana/dashboards/contrail-airflow.json}"""),
              )

      with subtest("every event is accounted for"):
          platform.verify()
    '';
}
