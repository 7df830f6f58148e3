"""Switching a machine to a newer configuration."""

from scenarios.platform import Node


def switch(node: Node, toplevel: str, units: dict[str, str]) -> None:
    """Switches to a system, as `nixos-rebuild switch` does.

    Where no NixOS is under the services, the changed units of it are put in place by hand: `units` has the
    folder of each, by its name.
    """
    program = f"{toplevel}/bin/switch-to-configuration"
    status, _ = node.execute(f"test -x {program}")
    if status == 0:
        node.succeed(f"{program} test >&2")
        return
    node.log(f"LEFT OUT: switching: {program} is not on this machine; units are replaced by hand")
    for name, folder in units.items():
        node.succeed(f"cp {folder}/{name} /etc/systemd/system/{name}")
    node.succeed("systemctl daemon-reload")
    # As the switch does: all that changed are stopped, and then started.
    names = " ".join(units)
    node.succeed(f"systemctl stop {names}", f"systemctl start {names}")
