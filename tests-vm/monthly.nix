# An old day is moved to the monthly table, by the user of Airflow and with no more rights than it has.
{ lib, ... }:
{
  name = "monthly";

  nodes.machine = {
    imports = [
      ../nixos/profiles/stack.nix
      ./lib/pipeline-only.nix
      ./lib/with-airflow.nix
    ];
    services.contrail.airflow.dags.settings.archive = {
      after_days = 2;
      quiet_s = 0;
    };
  };

  testScript =
    { nodes, ... }:
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "orchestration" ] ''
      platform = Platform(
          machine, contrail="${nodes.machine.services.contrail.command}/bin/contrail"
      )
      rows = 100_000

      start_all()

      with subtest("everything starts"):
          platform.wait_until_ready()
          airflow = Airflow(platform)
          airflow.wait_for_dags({"monthly_archive"})
          # Behind the run that is due by the schedule, which would take the day first.
          states = airflow.run("monthly_archive")
          assert states["due"] == "success", states

      with subtest("there is a day of five days ago"):
          platform.query(
              "INSERT INTO flight_data.flight_positions (flight_id, callsign, longitude, latitude, altitude,"
              " gspeed, timestamp, source, source_offset) SELECT 'F' || number % 100, 'C', number % 180, 1,"
              " 30000, 450, toStartOfDay(now64(3, 'UTC') - INTERVAL 5 DAY) + INTERVAL number * 800 MILLISECOND,"
              f" 'test-source', number FROM numbers({rows})"
          )

      with subtest("it is moved while events flow"):
          states = airflow.run("monthly_archive")
          assert states == {"due": "success", "move": "success"}, states
          assert platform.query("SELECT toString(state), rows FROM flight_data.archived_days FINAL") == f"dropped\t{rows}"

      with subtest("every row counts once"):
          of_it = "WHERE source = 'test-source'"
          for table, wanted in (
              ("flight_positions", 0),
              ("flight_positions_monthly", rows),
              ("flight_positions_all", rows),
          ):
              count = int(platform.query(f"SELECT count() FROM flight_data.{table} {of_it}"))
              assert count == wanted, (table, count)

      with subtest("nothing more is to be moved"):
          states = airflow.run("monthly_archive")
          assert states["due"] == "success", states

      with subtest("every event is accounted for"):
          platform.verify()
    '';
}
