"""Evaluates the flake, and runs what its modules generate, where Nix can build nothing.

NIX_EVAL names the folder of nix-eval and nix-boot, which have variables of their own; NIX_EVAL_PACKAGES the
folder of real programs, which is laid out anew. python3 nixos/check/evaluate.py [STEP...] runs some of:

  evaluate    every output of the flake, without a warning of ours
  refuse      configurations that must not evaluate, each with a sentence that names the option
  accept      what docs/deploy.md shows of a host whose parts lie elsewhere
  typecheck   the script of every VM test, by mypy and pyflakes
  files       generated files, by the programs that read them; the exposure of every unit
  boot        every VM test with one node, under a real systemd
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OWN = ROOT / "nixos/check"
LINTERS = ROOT / "target/tools/python/bin"
# Warnings that the module tree used for the evaluation gives by itself.
NOT_OURS = re.compile(
    r"mkAliasOptionModuleMD|override|lock file|Git tree|omitted these incompatible|all-systems"
)
# By systemd-analyze security, at most. Those of nixpkgs' own modules have what these leave them.
EXPOSURE = {
    "flight-ingester": 2.0,
    "flight-mock": 2.0,
    "flight-producer": 2.0,
    "airflow-api": 4.0,
    "airflow-dag-processor": 4.0,
    "airflow-migrate": 4.0,
    "airflow-scheduler": 4.0,
    "akhq": 4.0,
    "alertmanager": 4.0,
    "apache-kafka": 4.0,
    "clickhouse": 4.0,
    "clickhouse-migrate": 4.0,
    "contrail-exporter": 4.0,
    "grafana": 4.0,
    "kafka-rest": 4.0,
    "kafka-topics": 4.0,
    "kminion": 4.0,
    "mailpit-contrail": 4.0,
    "opentelemetry-collector": 4.0,
    "postgresql": 4.0,
    "prometheus": 4.0,
    "schema-registry": 4.0,
}
HOST = ".#nixosConfigurations.example"
# It has every unit.
STACK = ".#nixosConfigurations.stack"
# What a configuration adds to the example host, and words that the refusal must have.
REFUSED = {
    "a secret that is missing": (
        "{ services.contrail.grafana.secretKeyFile = lib.mkForce null; }",
        ["services.contrail.grafana.secretKeyFile", "no default credentials"],
    ),
    "every secret that is missing, at once": (
        (
            "{ services.contrail.clickhouse.users.admin.passwordFile = lib.mkForce null;"
            " services.contrail.grafana.adminPasswordFile = lib.mkForce null; }"
        ),
        [
            "services.contrail.clickhouse.users.admin.passwordFile",
            "services.contrail.grafana.adminPasswordFile",
        ],
    ),
    "the well-known user": (
        '{ services.contrail.clickhouse.users.default.passwordFile = "/run/secrets/x"; }',
        ["services.contrail.clickhouse.users.default"],
    ),
    "a secret in the store": (
        "{ services.contrail.grafana.adminPasswordFile = lib.mkForce ./README.md; }",
        ["services.contrail.grafana.adminPasswordFile"],
    ),
    "both profiles": (
        "{ imports = [ (flake + /nixos/profiles/stack.nix) ]; }",
        [
            "services.contrail.clickhouse.users",
            "conflicting definition values",
            "profiles/stack.nix",
        ],
    ),
    "a port that is used twice": (
        "{ services.contrail.akhq.port = 8081; }",
        [
            "port 8081 is used more than once",
            "services.contrail.akhq.port",
            "services.contrail.schemaRegistry.port",
        ],
    ),
    "a port that is none": (
        '{ services.contrail.mock.settings.listen = "127.0.0.1"; }',
        ["127.0.0.1 is not an address with a port"],
    ),
    "an address that is not of IPv4": (
        '{ services.contrail.address = "::"; }',
        ["services.contrail.address"],
    ),
    "a secret among the settings": (
        '{ services.contrail.ingester.settings.clickhouse.password = "hunter2"; }',
        ["services.contrail.ingester.settings", "clickhouse.password", "credentials"],
    ),
    "a secret among librdkafka's properties": (
        '{ services.contrail.producer.settings.kafka.properties."sasl.password" = "hunter2"; }',
        ["services.contrail.producer.settings", "sasl.password"],
    ),
    "a secret among the settings of the registry": (
        (
            '{ services.contrail.schemaRegistry.settings."kafkastore.sasl.jaas.config" = "x password=hunter2;"; }'
        ),
        [
            "services.contrail.schemaRegistry.settings",
            "kafkastore.sasl.jaas.config",
            "services.contrail.schemaRegistry.credentials",
        ],
    ),
    "a secret among AKHQ's settings": (
        (
            "{ services.contrail.akhq.settings.akhq.connections.contrail.properties"
            '."sasl.jaas.config" = "x password=hunter2;"; }'
        ),
        ["services.contrail.akhq.settings", "sasl.jaas.config"],
    ),
    "a secret among kminion's settings": (
        '{ services.contrail.kafkaExporter.settings.kafka.sasl.password = "hunter2"; }',
        ["services.contrail.kafkaExporter.settings", "kafka.sasl.password", "environmentFile"],
    ),
    "an option that is unknown": (
        "{ services.contrail.kafka.heapMib = 1; }",
        ["services.contrail.kafka.heapMib"],
    ),
}
# As REFUSED, but found by `check-config` when the file is built.
REFUSED_BY_BUILD = {
    "a setting that is unknown": (
        "{ services.contrail.mock.settings.flet = 3; }",
        "flight-mock",
        ["flet"],
    ),
    "a value out of range": (
        "{ services.contrail.mock.settings.fleet = 0; }",
        "flight-mock",
        ["fleet"],
    ),
    "a broker without a port": (
        '{ services.contrail.producer.settings.kafka.brokers = lib.mkForce ""; }',
        "flight-producer",
        ["kafka.brokers"],
    ),
}


class Fault(Exception):
    """Something does not hold."""


def say(text: str) -> None:
    """Tells how far things are."""
    print(text, flush=True)


def tool(name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs nix-eval or nix-boot in the checkout."""
    command = [os.path.join(os.environ["NIX_EVAL"], name), *arguments]
    # nix-eval has mypy check test scripts: the one that `make python-lint` uses.
    path = f"{LINTERS}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise Fault(f"{' '.join(command[:3])} fails:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


def tests() -> list[str]:
    """The names of the VM tests."""
    return sorted(path.stem for path in (ROOT / "tests-vm").glob("*.nix"))


def evaluate() -> None:
    """Every output of the flake."""
    done = tool("nix-eval", "flake", "check", "--no-build")
    lines = [line for line in done.stderr.splitlines() if "warning" in line.lower()]
    if ours := [line for line in lines if not NOT_OURS.search(line)]:
        raise Fault("warnings of ours:\n" + "\n".join(ours))
    count = sum("derivation evaluated to" in line for line in done.stderr.splitlines())
    say(f"evaluate: {count} derivations, no warning of ours")


def with_module(host: str, module: str, what: str) -> list[str]:
    """The arguments that evaluate `what` of a host with one more module."""
    function = f"c: let flake = {ROOT}; in (c.extendModules {{ modules = [ ({{ lib, ... }}: {module}) ]; }}).config.{what}"
    return [host, "--apply", function.replace("./README.md", '(builtins.toFile "x" "x")')]


def refuse() -> None:
    """Bad input, each with the words of its refusal."""
    for what, (module, words) in REFUSED.items():
        arguments = with_module(HOST, module, "system.build.toplevel.drvPath")
        done = tool("nix-eval", "eval", "--impure", "--raw", *arguments, check=False)
        if done.returncode == 0:
            raise Fault(f"{what} is not refused")
        if missing := [word for word in words if word not in done.stderr]:
            raise Fault(f"{what}: the refusal does not say {missing}:\n{done.stderr[-1500:]}")
        say(f"refuse: {what}")
    # The same, by the program itself.
    for what, (module, name, words) in REFUSED_BY_BUILD.items():
        source = f'environment.etc."contrail/{name}.toml".source.drvPath'
        arguments = with_module(HOST, module, source)
        path = tool("nix-eval", "eval", "--impure", "--raw", *arguments).stdout
        done = tool("nix-eval", "build", "--no-link", f"{path}^out", check=False)
        if done.returncode == 0:
            raise Fault(f"{what} is not refused")
        if missing := [word for word in words if word not in done.stderr]:
            raise Fault(f"{what}: the refusal does not say {missing}:\n{done.stderr[-1500:]}")
        say(f"refuse: {what} (when the file is built)")


def accept() -> None:
    """The example of docs/deploy.md, with the settings that come of it checked by the programs."""
    text = (ROOT / "docs/deploy.md").read_text().split("\n## Parts elsewhere\n")[1]
    example = text.split("```nix\n")[1].split("```")[0]
    for name in ("flight-producer", "flight-ingester"):
        source = f'environment.etc."contrail/{name}.toml".source.drvPath'
        arguments = with_module(HOST, f"{{ {example} }}", source)
        path = tool("nix-eval", "eval", "--impure", "--raw", *arguments).stdout
        built = tool("nix-eval", "build", "--no-link", "--print-out-paths", f"{path}^out").stdout
        brokers = re.search(
            r'^brokers = "(.*)"', pathlib.Path(built.strip()).read_text(), re.MULTILINE
        )
        if not brokers or brokers[1] not in example:
            raise Fault(f"{name} does not go to the Kafka of the example: {brokers}")
    arguments = with_module(HOST, f"{{ {example} }}", "system.build.toplevel.drvPath")
    tool("nix-eval", "eval", "--impure", "--raw", *arguments)
    say("accept: the example of docs/deploy.md")
    text = (ROOT / "docs/deploy.md").read_text().split("**With Airflow**")[1]
    example = text.split("```nix\n")[1].split("```")[0]
    with_airflow = f'let secret = name: "/run/secrets/${{name}}"; in {{ {example} }}'
    arguments = with_module(HOST, with_airflow, "system.build.toplevel.drvPath")
    tool("nix-eval", "eval", "--impure", "--raw", *arguments)
    say("accept: the example of docs/deploy.md with Airflow")


def typecheck() -> None:
    """The script of every VM test."""
    for name in tests():
        done = tool("nix-eval", "typecheck", name)
        say(f"typecheck: {name}: {done.stdout.strip().splitlines()[-1]}")
        lint(name)


def lint(name: str) -> None:
    """A test's script by pyflakes, as the test driver has it when the test is built."""
    attribute = f".#checks.x86_64-linux.{name}.config.testScriptString"
    script = tool("nix-eval", "eval", "--raw", attribute).stdout
    nodes = f".#checks.x86_64-linux.{name}.config.nodes"
    found = tool("nix-eval", "eval", "--json", nodes, "--apply", "builtins.attrNames").stdout
    names = [*json.loads(found), "machine", "machines", "start_all", "subtest"]
    own = LINTERS / "python"
    python = str(own) if own.exists() else sys.executable
    done = subprocess.run(
        [python, "-m", "pyflakes"],
        input=script,
        env=os.environ | {"PYFLAKES_BUILTINS": ",".join(names).replace("-", "_")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Fault(f"pyflakes on the script of {name}: {done.stdout}{done.stderr}")


def built(*attributes: str) -> list[pathlib.Path]:
    """What attributes of the flake build."""
    with tempfile.TemporaryDirectory() as folder:
        tool("nix-eval", "build", "-j2", "-o", f"{folder}/r", *attributes)
        links = [pathlib.Path(folder, "r" if n == 0 else f"r-{n}") for n in range(len(attributes))]
        return [link.resolve() for link in links]


def files() -> None:
    """Generated files, by the programs that read them."""
    config = f"{HOST}.config"
    units = built(*(f'{STACK}.config.systemd.units."{name}.service".unit' for name in EXPOSURE))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, unit in zip(EXPOSURE, units, strict=True):
            path = pathlib.Path(folder, f"{name}.service")
            shutil.copyfile(unit / f"{name}.service", path)
            paths.append(path)
        exposure(paths)
    services = [name for name in EXPOSURE if name.startswith("flight-")]
    tomls = built(*(f'{config}.environment.etc."contrail/{name}.toml".source' for name in services))
    say(f"files: check-config takes {', '.join(services)}: {len(tomls)} files")
    (prometheus,) = built(f'{config}.systemd.units."prometheus.service".unit')
    text = (prometheus / "prometheus.service").read_text()
    found = re.search(r"--config\.file=(\S+)", text)
    if not found:
        raise Fault("prometheus.service names no configuration")
    checked = subprocess.run(
        ["promtool", "check", "config", found[1]], capture_output=True, text=True, check=False
    )
    if checked.returncode != 0:
        raise Fault(f"promtool: {checked.stdout}{checked.stderr}")
    # One file is ours; nixpkgs adds one for what is said in Nix, and it is empty.
    rules = sum(map(int, re.findall(r"(\d+) rules found", checked.stdout)))
    wanted = (ROOT / "grafana/alerts/rules.yaml").read_text().count("- alert: ")
    if rules != wanted:
        raise Fault(f"promtool finds {rules} rules, not {wanted}: {checked.stdout}")
    say(f"files: promtool: {rules} rules")
    engine_reads(config)


def exposure(paths: list[pathlib.Path]) -> None:
    """What systemd says of units."""
    over = []
    for path in paths:
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
        if not found:
            raise Fault(f"systemd-analyze security {path.name}: {done.stdout}{done.stderr}")
        level = float(found[1])
        say(f"files: exposure of {path.stem}: {level}")
        if level > EXPOSURE[path.stem]:
            over.append(f"{path.stem}: {level}, at most {EXPOSURE[path.stem]}")
    if over:
        raise Fault("exposure by systemd-analyze security: " + "; ".join(over))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    # Programs that cannot be had here, and units that are NixOS's.
    absent = re.compile(r"not executable: No such file|Unit \S+ not found|Failed to (add|create)")
    lines = [line for line in verified.stderr.splitlines() if line and not absent.search(line)]
    ours = [line for line in lines if any(path.name in line for path in paths)]
    if ours:
        raise Fault("systemd-analyze verify:\n" + "\n".join(ours))
    say(f"files: systemd-analyze verify: {len(paths)} units")


def engine_reads(config: str) -> None:
    """The engine takes the generated configuration of ClickHouse as its own."""
    etc = f'{config}.environment.etc."clickhouse-server'
    server, users = built(
        f'{etc}/config.d/100-nixos-module-config.yaml".source',
        f'{etc}/users.d/100-nixos-module-config.yaml".source',
    )
    library = ROOT / "var/parts/engine/libchdb.so"
    command = [sys.executable, *map(str, (OWN / "engine.py", library, server, users))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Fault(f"the engine and its configuration: {done.stdout}{done.stderr[-3000:]}")
    say(f"files: the engine: {done.stdout.strip()}")


def boot() -> None:
    """Every VM test with one node."""
    if "pivot_root" not in pathlib.Path(os.environ["NIX_EVAL"], "nix-boot").read_text():
        raise Fault(
            "this nix-boot keeps its machine in a chroot, where the kernel refuses user namespaces"
            " (PrivateUsers): it needs a root of its own by pivot_root, with shared mounts"
        )
    subprocess.run([OWN / "prepare-packages", os.environ["NIX_EVAL_PACKAGES"]], check=True)
    for name in tests():
        nodes = json.loads(
            tool(
                "nix-eval",
                "eval",
                "--json",
                f".#checks.x86_64-linux.{name}.config.nodes",
                "--apply",
                "builtins.attrNames",
            ).stdout
        )
        if len(nodes) != 1:
            say(f"boot: {name} has {len(nodes)} nodes: only a machine with Nix runs it")
            continue
        began = time.monotonic()
        done = tool("nix-boot", "test", name)
        for line in done.stdout.splitlines():
            if line.startswith(("subtest", "nix-boot")) or "LEFT OUT" in line:
                say(f"boot: {name}: {line}")
        say(f"boot: {name} passed in {time.monotonic() - began:.0f} s")


STEPS = {
    "evaluate": evaluate,
    "refuse": refuse,
    "accept": accept,
    "typecheck": typecheck,
    "files": files,
    "boot": boot,
}


def main() -> int:
    """Runs the steps that are named, or all."""
    for variable in ("NIX_EVAL", "NIX_EVAL_PACKAGES"):
        if variable not in os.environ:
            print(f"{variable} is not set: see docs/nix.md", file=sys.stderr)
            return 2
    wanted = sys.argv[1:] or list(STEPS)
    if unknown := [name for name in wanted if name not in STEPS]:
        print(f"no step {', '.join(unknown)}: there are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    # Generated files have the programs that check them.
    if {"refuse", "accept", "files"} & set(wanted):
        subprocess.run([OWN / "prepare-packages", os.environ["NIX_EVAL_PACKAGES"]], check=True)
    try:
        for name in wanted:
            STEPS[name]()
    except Fault as fault:
        print(f"nix-check: {fault}", file=sys.stderr)
        return 1
    say(f"nix-check: {', '.join(wanted)}: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
