# `nix fmt`: formats every Nix file that git knows.
{ pkgs }:
pkgs.writeShellApplication {
  name = "contrail-fmt";
  runtimeInputs = [
    pkgs.findutils
    pkgs.git
    pkgs.nixfmt
  ];
  text = ''
    git ls-files -z '*.nix' | xargs -0 nixfmt "$@"
  '';
}
