# `nix run .#stack`: the whole platform in a VM without a screen of its own.
{ pkgs, stack }:
let
  system = stack.extendModules {
    modules = [
      {
        nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
        virtualisation.host.pkgs = pkgs;
      }
    ];
  };
  inherit (system.config.system.build) vm;
  inherit (system.config.networking) hostName;
  memory = toString system.config.virtualisation.memorySize;
in
pkgs.writeShellApplication {
  name = "contrail-stack";
  runtimeInputs = [ pkgs.coreutils ];
  text = ''
    usage() {
      cat <<'END'
    Runs contrail in a VM: Kafka, schema registry, ClickHouse, Grafana, Prometheus and the services.

      nix run .#stack -- [--ephemeral] [--memory MIB]

      --ephemeral     forget everything at the end
      --memory MIB    memory of the VM (default ${memory})
      --help          show this

    What it keeps lies in $CONTRAIL_STATE, or in the working directory, in ${hostName}.qcow2. Its ports are
    forwarded to this machine's loopback; its first screen lists pages and credentials.
    END
    }
    fail() {
      echo "contrail-stack: $1; --help lists what can be given" >&2
      exit 2
    }

    ephemeral=
    memory=
    while [ $# -gt 0 ]; do
      case $1 in
        --help | -h)
          usage
          exit 0
          ;;
        --ephemeral) ephemeral=1 ;;
        --memory | --memory=*)
          if [ "$1" = --memory ]; then
            [ $# -gt 1 ] || fail "--memory needs a number of MiB"
            shift
            memory=$1
          else
            memory=''${1#--memory=}
          fi
          case $memory in
            "" | *[!0-9]*) fail "--memory needs a number of MiB, not '$memory'" ;;
          esac
          [ "$memory" -ge 4096 ] || fail "--memory $memory is too little: the services need 4096 MiB"
          ;;
        *) fail "unknown option $1" ;;
      esac
      shift
    done

    [ -w /dev/kvm ] || echo "contrail-stack: /dev/kvm cannot be used, so the VM runs many times slower" >&2

    if [ -n "$ephemeral" ]; then
      state=$(mktemp -d)
      trap 'rm -rf "$state"' EXIT
    else
      state=''${CONTRAIL_STATE:-$PWD}
      mkdir -p "$state"
    fi
    export NIX_DISK_IMAGE="$state/${hostName}.qcow2"
    if [ -n "$memory" ]; then
      # The last one counts.
      export QEMU_OPTS="''${QEMU_OPTS:-} -m $memory"
    fi
    ${vm}/bin/run-${hostName}-vm
  '';
  meta.description = "The whole flight-data platform in a VM, its ports on the loopback";
}
