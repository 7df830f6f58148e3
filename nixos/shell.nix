# What building, testing and linting contrail takes: `nix develop`, then the targets of the Makefile.
{ pkgs }:
{
  default = pkgs.mkShell {
    packages = [
      pkgs.cargo
      pkgs.cargo-deny
      pkgs.clippy
      pkgs.cmake
      pkgs.curl
      pkgs.deadnix
      pkgs.jre_headless
      pkgs.maven
      pkgs.nixfmt
      pkgs.nodejs
      pkgs.openssl
      pkgs.perl
      pkgs.pkg-config
      pkgs.python3
      pkgs.ruff
      pkgs.rustc
      pkgs.rustfmt
      pkgs.statix
    ];
  };
}
