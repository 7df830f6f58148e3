# A host as docs/deploy.md makes it: no port beyond those said, nobody in without credentials, no secret
# in the store.
{ lib, pkgs, ... }:
let
  folder = "/var/lib/contrail-test-secrets";
  names = [
    "clickhouse-admin"
    "clickhouse-writer"
    "clickhouse-reader"
    "clickhouse-otel"
    "grafana-admin"
    "grafana-secret-key"
  ];
in
{
  name = "security";

  nodes.machine = {
    imports = [ ../nixos/profiles/host.nix ];

    services.contrail = {
      clickhouse.users = lib.genAttrs [ "admin" "writer" "reader" "otel" ] (user: {
        passwordFile = "${folder}/clickhouse-${user}";
      });
      grafana.adminPasswordFile = "${folder}/grafana-admin";
      grafana.secretKeyFile = "${folder}/grafana-secret-key";
    };

    # In place of sops-nix or agenix: secrets that nobody knows, made on the machine.
    systemd.services.test-secrets = {
      description = "Secrets for the test";
      wantedBy = [ "multi-user.target" ];
      before = [
        "clickhouse.service"
        "clickhouse-migrate.service"
        "flight-ingester.service"
        "grafana.service"
        "opentelemetry-collector.service"
      ];
      path = [ pkgs.coreutils ];
      script = ''
        umask 077
        mkdir -p ${folder}
        for name in ${lib.concatStringsSep " " names}; do
          [ -e ${folder}/$name ] || head -c 24 /dev/urandom | base64 | tr -d '/+=\n' > ${folder}/$name
        done
      '';
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
      };
    };
  };

  testScript =
    { nodes, ... }:
    let
      inherit (nodes.machine.services) contrail;
      ports = lib.sort lib.lessThan (lib.attrValues contrail.ports);
      units = [
        "apache-kafka"
        "clickhouse"
        "clickhouse-migrate"
        "flight-ingester"
        "flight-mock"
        "flight-producer"
        "kafka-topics"
        "schema-registry"
      ];
      json = builtins.toJSON;
    in
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "presence" "flow" ] ''
      import re

      def secret(name: str) -> str:
          return machine.succeed(f"cat ${folder}/{name}").strip()

      start_all()
      for unit in ${json units}:
          machine.wait_for_unit(f"{unit}.service")
      platform = Platform(machine, user="reader", password=secret("clickhouse-reader"))

      with subtest("events flow with the passwords of the files"):
          events_flow(platform)

      with subtest("nothing listens but what is said, and nothing beyond the loopback"):
          said = set(${json ports})
          listening = machine.succeed("ss -Hltn").splitlines()
          found = {}
          for line in listening:
              address, port = line.split()[3].rsplit(":", 1)
              found[int(port)] = address
          if not present(machine, "${contrail.schemaRegistry.package}/share/java", "Confluent's registry"):
              # What stands in for it has a port of its own behind the registry's.
              said.add(${toString contrail.schemaRegistry.port} + 20000)
          unexpected = {port: address for port, address in found.items() if port not in said}
          assert not unexpected, f"listens, and no option says so: {unexpected}"
          outside = {
              port: address
              for port, address in found.items()
              if not re.fullmatch(r"127\.[0-9.]+|\[::1\]|\[::ffff:127\.[0-9.]+\]", address)
          }
          assert not outside, f"listens beyond the loopback: {outside}"

      with subtest("the firewall lets nothing in"):
          assert ${if nodes.machine.networking.firewall.enable then "True" else "False"}
          assert ${json nodes.machine.networking.firewall.allowedTCPPorts} == []

      with subtest("ClickHouse lets nobody in without a password"):
          url = platform.clickhouse + "/?query=SELECT+1"
          for account in ("default:", "default:admin", "admin:admin", "writer:writer", "reader:reader", "reader:"):
              machine.fail(f"curl -sf -u '{account}' '{url}'")
          machine.fail(f"curl -sf '{url}'")

      with subtest("a reader reads"):
          assert platform.query("SELECT 1") == "1"
          for statement in (
              "INSERT INTO flight_data.flight_positions (source, source_offset) VALUES ('x', 1)",
              "DROP TABLE flight_data.flight_positions",
              "TRUNCATE TABLE flight_data.flight_positions",
              "CREATE TABLE flight_data.x (a Int8) ENGINE = Memory",
              "SELECT * FROM file('/etc/passwd', 'LineAsString')",
          ):
              machine.fail(
                  f"curl -sf -u 'reader:{platform.password}' --data-binary \"{statement}\" {platform.clickhouse}/"
              )

      with subtest("every event is accounted for, as docs/deploy.md does it"):
          account = "CONTRAIL_CLICKHOUSE__USER=admin CONTRAIL_CLICKHOUSE__PASSWORD=$(cat ${folder}/clickhouse-admin)"
          admin = Platform(machine, contrail=f"{account} ${contrail.command}/bin/contrail")
          assert admin.verify()["ok"]

      with subtest("secrets are readable for nobody else, and not in the store"):
          for name in ${json names}:
              value = secret(name)
              assert len(value) >= 16
              # The paths of the store that the configuration names, and what the units have in them.
              machine.fail(f"grep -RqsF -e '{value}' /etc/systemd/system /etc/contrail /etc/clickhouse-server")
              machine.fail(f"systemctl show '*' | grep -qF -e '{value}'")
          machine.succeed("stat -c %a ${folder} | grep -qx 700")
          for unit in ("flight-producer", "flight-ingester", "flight-mock"):
              pid = machine.get_unit_property(f"{unit}.service", "MainPID")
              environment = machine.succeed(f"tr '\\0' '\\n' < /proc/{pid}/environ; tr '\\0' ' ' < /proc/{pid}/cmdline")
              for name in ${json names}:
                  assert secret(name) not in environment, f"{unit} shows {name}"

      with subtest("a password that everybody knows is refused"):
          file = "${folder}/clickhouse-reader"
          machine.succeed(f"cp -p {file} {file}.kept", f"echo reader > {file}")
          machine.succeed("systemctl --no-block restart clickhouse.service")
          machine.wait_until_succeeds(
              "journalctl -u clickhouse.service | grep 'users.reader.passwordFile.*everybody knows' > /dev/null",
              timeout=120,
          )
          machine.succeed(f"mv {file}.kept {file}")
          machine.wait_for_unit("clickhouse.service")
          platform.wait_until_ready()

      with subtest("services run as nobody in particular, without rights"):
          for unit in ("flight-producer", "flight-ingester", "flight-mock", "clickhouse", "apache-kafka"):
              pid = machine.get_unit_property(f"{unit}.service", "MainPID")
              status = machine.succeed(f"cat /proc/{pid}/status")
              fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
              assert fields["Uid"].split()[0] != "0", f"{unit} runs as root"
              assert int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0, fields
              assert fields["NoNewPrivs"].strip() == "1"
              assert fields["Seccomp"].strip() == "2"
    '';
}
