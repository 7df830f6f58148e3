# The producer is stopped, and Airflow starts it again and mails what it saw. It may restart this unit, and
# nothing else.
{ lib, ... }:
{
  name = "airflow-failure";

  nodes.machine = {
    imports = [
      ../nixos/profiles/stack.nix
      ./lib/pipeline-only.nix
      ./lib/with-airflow.nix
    ];
  };

  testScript =
    { nodes, ... }:
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "orchestration" ] ''
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

      with subtest("its user may restart the producer, and nothing else"):
          ask = "runuser -u airflow -- systemctl --no-ask-password"
          pid = machine.get_unit_property("flight-producer.service", "MainPID")
          machine.succeed(f"{ask} restart flight-producer.service")
          assert machine.get_unit_property("flight-producer.service", "MainPID") != pid
          machine.fail(f"{ask} stop flight-producer.service")
          machine.fail(f"{ask} restart flight-ingester.service")
          machine.succeed("systemctl is-active flight-producer.service flight-ingester.service")
          platform.wait_until_ready()

      with subtest("the producer is stopped, and runs again"):
          producer_is_started_again(platform, airflow)

      with subtest("mails say so"):
          machine.wait_until_succeeds(
              "curl -sf http://127.0.0.1:8025/api/v1/messages | grep -q 'well again'", timeout=60
          )
          mails = json.loads(platform.curl("http://127.0.0.1:8025/api/v1/messages"))["messages"]
          subjects = [mail["Subject"] for mail in mails if "flight-producer" in mail["Subject"]]
          assert subjects == [
              "[contrail] flight-producer is well again",
              "[contrail] flight-producer is not well",
          ], subjects

      with subtest("every event is accounted for"):
          platform.verify()
    '';
}
