"""What a test leaves out where a program cannot be had, and says so."""

from scenarios.platform import Node


def present(node: Node, program: str, what: str) -> bool:
    """True if a program is on the machine. In a VM all of them are, outside of one some are not."""
    status, _ = node.execute(f"test -e {program}")
    if status != 0:
        node.log(f"LEFT OUT: {what}: {program} is not on this machine")
    return status == 0
