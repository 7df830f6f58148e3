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

  # LoadCredential of a set of files by name.
  load =
    files:
    lib.mapAttrsToList (id: path: "${id}:${path}") (lib.filterAttrs (_: path: path != null) files);
}
