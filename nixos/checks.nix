# `nix flake check`: the workspace's lints and tests, every VM test in tests-vm/, every package and shell.
{
  lib,
  pkgs,
  self,
  packageSet,
}:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  tests = lib.filterAttrs (name: kind: kind == "regular" && lib.hasSuffix ".nix" name) (
    builtins.readDir ../tests-vm
  );
  vm =
    file:
    pkgs.testers.runNixOSTest {
      imports = [ (../tests-vm + "/${file}") ];
      defaults.imports = [
        self.nixosModules.default
        ../tests-vm/lib/node.nix
      ];
    };
in
packageSet.checks
// {
  modules-alone = import ./modules-alone.nix { inherit lib pkgs self; };
}
// lib.mapAttrs' (file: _: lib.nameValuePair (lib.removeSuffix ".nix" file) (vm file)) tests
// lib.mapAttrs' (name: lib.nameValuePair "package-${name}") self.packages.${system}
// lib.mapAttrs' (name: lib.nameValuePair "shell-${name}") self.devShells.${system}
