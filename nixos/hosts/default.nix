# Each file beside this one is a host, by its name. `stack` is what `nix run .#stack` boots; `example` is a host to
# begin from, see docs/deploy.md.
{ lib, self }:
let
  files = lib.filterAttrs (name: _: lib.hasSuffix ".nix" name && name != "default.nix") (
    builtins.readDir ./.
  );
  host =
    file:
    lib.nixosSystem {
      modules = [
        self.nixosModules.default
        (./. + "/${file}")
      ];
    };
in
lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (host file)) files
