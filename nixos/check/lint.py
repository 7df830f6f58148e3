"""What can be said of the Nix files without nixpkgs: they parse, are formatted, and agree with their lock.

python3 nixos/check/lint.py TOOLS, where TOOLS is the folder of nixfmt and deadnix.
"""

import json
import pathlib
import re
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]


def nix_files() -> list[str]:
    """Every Nix file that git knows, or would if it were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.nix"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split() if (ROOT / name).exists()]


def run(*command: str | pathlib.Path) -> bool:
    """True if a linter finds nothing; it says itself what it found."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode == 0


def lock_agrees(flake: str, lock: dict[str, typing.Any]) -> list[str]:
    """Where flake.lock is not a lock of flake.nix."""
    nodes = lock["nodes"]
    wanted = dict(re.findall(r'([\w-]+)(?:\.url|\s*=\s*\{\s*url)\s*=\s*"(github:[^"]+)"', flake))
    problems = []
    for name, url in wanted.items():
        owner, repo, *ref = url.removeprefix("github:").split("/")
        original = {"owner": owner, "repo": repo, "type": "github"} | (
            {"ref": ref[0]} if ref else {}
        )
        node = nodes.get(name)
        if node is None:
            problems.append(f"flake.lock does not lock {name}: run `nix flake lock`")
            continue
        if node["original"] != original:
            problems.append(f"flake.lock has {name} as {node['original']}, flake.nix as {url}")
        locked = node["locked"]
        if any(locked.get(key) != original[key] for key in ("owner", "repo")):
            problems.append(f"flake.lock locks {name} to another repository: {locked}")
        for key, pattern in (("rev", r"[0-9a-f]{40}"), ("narHash", r"sha256-[A-Za-z0-9+/]{43}=")):
            if not re.fullmatch(pattern, str(locked.get(key))):
                problems.append(f"flake.lock: {key} of {name} is {locked.get(key)}")
    if extra := set(nodes) - set(wanted) - {"root"}:
        problems.append(
            f"flake.lock locks what flake.nix does not name: {', '.join(sorted(extra))}"
        )
    if set(nodes["root"]["inputs"]) != set(wanted):
        problems.append(f"flake.lock's root has {sorted(nodes['root']['inputs'])}")
    if not wanted:
        problems.append("flake.nix names no inputs, or in a way that this program cannot read")
    return problems


def main() -> int:
    """Runs every linter, and fails if one finds something."""
    tools = pathlib.Path(sys.argv[1]).resolve()
    files = nix_files()
    print(f"{len(files)} Nix files")
    passed = [
        run(tools / "nixfmt", "--check", *files),
        run(tools / "deadnix", "--fail", *files),
    ]
    flake = (ROOT / "flake.nix").read_text()
    problems = lock_agrees(flake, json.loads((ROOT / "flake.lock").read_text()))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 0 if all(passed) and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
