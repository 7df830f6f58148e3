# Adds contrail's packages to nixpkgs under `contrailPackages`.
{ lib, crane }:
final: _previous: {
  contrailPackages =
    (import ./packages {
      inherit lib crane;
      pkgs = final;
      root = ../.;
    }).packages;
}
