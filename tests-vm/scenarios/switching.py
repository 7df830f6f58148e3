"""Switching a machine to a newer configuration."""

from scenarios.platform import Node
from scenarios.presence import present


def switch(node: Node, toplevel: str, units: dict[str, str]) -> None:
    """Switches to a system, as `nixos-rebuild switch` does.

    Where no NixOS is under the services, the changed units of it are put in place by hand: `units` has the
    folder of each, by its name.
    """
    program = f"{toplevel}/bin/switch-to-configuration"
    if present(node, program, "switching, units are replaced by hand"):
        node.succeed(f"{program} test >&2")
        return
    for name, folder in units.items():
        node.succeed(f"cp {folder}/{name} /etc/systemd/system/{name}")
    node.succeed("systemctl daemon-reload")
    # As the switch does: all that changed are stopped, and then started.
    names = " ".join(units)
    node.succeed(f"systemctl stop {names}", f"systemctl start {names}")
