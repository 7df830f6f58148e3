# Secrets: files on the host, by their paths, which systemd hands to the units that read them.
{ lib }:
{
  # An option that names such a file. Paths in the Nix store are refused: everybody can read those.
  file =
    {
      description,
      example ? "/run/secrets/secret",
    }:
    lib.mkOption {
      type = lib.types.nullOr lib.types.externalPath;
      default = null;
      inherit description example;
    };

  # The names of those in a set, by options, that are not given.
  missing = files: lib.attrNames (lib.filterAttrs (_: path: path == null) files);

  # Shell lines of a unit that reads a secret, by its option and its credential, which is `$secret` afterwards.
  # They end the start if there is nothing in it and, under the profile `host`, if everybody knows it.
  check =
    profile: option: id:
    ''
      secret=$(cat "$CREDENTIALS_DIRECTORY/${id}")
      if [ -z "$secret" ]; then
        echo "${option} names an empty file" >&2
        exit 1
      fi
    ''
    + lib.optionalString (profile == "host") ''
      case $secret in
        admin | clickhouse | contrail* | default | password | reader | writer)
          echo "${option} names a file with a secret that everybody knows: make one of your own" >&2
          exit 1
          ;;
      esac
    '';

  # LoadCredential of a set of files by name.
  load =
    files:
    lib.mapAttrsToList (id: path: "${id}:${path}") (lib.filterAttrs (_: path: path != null) files);
}
