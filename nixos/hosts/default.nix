# Hosts. `stack` is what `nix run .#stack` boots; `example` is a host to begin from, see docs/deploy.md.
{ lib, self }:
let
  host =
    file:
    lib.nixosSystem {
      modules = [
        self.nixosModules.default
        file
      ];
    };
in
{
  stack = host ./stack.nix;
  example = host ./example.nix;
}
