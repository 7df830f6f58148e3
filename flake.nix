{
  description = "contrail: a self-hosted flight-data platform";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      packageSet = eachSystem (
        pkgs:
        import ./nixos/packages {
          inherit lib pkgs crane;
          root = ./.;
        }
      );
      forSystem = pkgs: packageSet.${pkgs.stdenv.hostPlatform.system};
    in
    {
      packages = eachSystem (
        pkgs:
        (forSystem pkgs).packages
        // {
          stack = import ./nixos/packages/stack.nix {
            inherit pkgs;
            inherit (self.nixosConfigurations) stack;
          };
        }
      );

      apps = eachSystem (
        pkgs: import ./nixos/apps.nix { packages = self.packages.${pkgs.stdenv.hostPlatform.system}; }
      );

      overlays.default = import ./nixos/overlay.nix { inherit lib crane; };

      nixosModules = import ./nixos/modules {
        packagesFor =
          pkgs:
          (import ./nixos/packages {
            inherit lib pkgs crane;
            root = ./.;
          }).packages;
      };

      nixosConfigurations = import ./nixos/hosts { inherit lib self; };

      checks = eachSystem (
        pkgs:
        import ./nixos/checks.nix {
          inherit lib pkgs self;
          packageSet = forSystem pkgs;
        }
      );

      devShells = eachSystem (pkgs: import ./nixos/shell.nix { inherit pkgs; });

      formatter = eachSystem (pkgs: import ./nixos/formatter.nix { inherit pkgs; });
    };
}
