# Secrets: files on the host, by their paths, which systemd hands to the units that read them.
{ lib }:
let
  # Settings that hold a secret, by their names: those of our services, of librdkafka and of Kafka in Java.
  isSecret =
    name:
    builtins.match "(.*[._-])?(password|secret|secret[._-]?key|token|key[.]pem|jaas[.]config|user[.]info)" name
    != null;
  # The names, with dots, of the secrets in a tree of settings. A reference, such as "${dir:…}", is none.
  secretsIn =
    path: value:
    if lib.isAttrs value then
      lib.concatLists (
        lib.mapAttrsToList (
          name: inner:
          if isSecret name && !lib.isAttrs inner then
            lib.optional (inner != "" && inner != null && !lib.hasPrefix "\${" (toString inner)) (
              lib.concatStringsSep "." (path ++ [ name ])
            )
          else
            secretsIn (path ++ [ name ]) inner
        ) value
      )
    else
      [ ];
in
{
  inherit isSecret;

  # The option of files that the unit of a service reads. `use` says how its settings name them.
  credentials =
    unit: use:
    lib.mkOption {
      type = lib.types.attrsOf lib.types.externalPath;
      default = { };
      example = {
        password = "/run/secrets/password";
      };
      description = ''
        Files that hold secrets, by name. The unit alone can read them, in
        `/run/credentials/${unit}.service/`; ${use}
      '';
    };

  # The assertion that the settings of a service, by its option, hold none: they are in the Nix store. `place`
  # is the option beside them that takes secrets.
  noneIn =
    option: place: settings:
    let
      found = secretsIn [ ] settings;
    in
    {
      assertion = found == [ ];
      message = "${option}.settings holds a secret (${lib.concatStringsSep ", " found}), and the Nix store can be read by everybody: put it in a file and name it in ${option}.${place}";
    };

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
        admin | airflow | clickhouse | contrail* | default | otel | password | reader | writer)
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
