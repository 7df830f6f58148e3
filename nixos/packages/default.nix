# Everything that contrail builds, from one build of its dependencies.
#   packages: what users install; checks: what `nix flake check` runs besides; versions.
{
  lib,
  pkgs,
  crane,
  root,
}:
let
  fs = lib.fileset;
  # remarshal comes from nixpkgs' cache, crane's own converter would be built first.
  craneLib = (crane.mkLib pkgs).overrideScope (
    _: previous: { writeTOML = previous.writeTOMLViaRemarshal; }
  );
  manifest = lib.importTOML (root + "/Cargo.toml");
  inherit (manifest.workspace.package) version rust-version;

  # What a program is compiled from: its own crates, and of the others the manifests alone, so that the
  # workspace is whole. Other folders, documentation among them, rebuild nothing.
  sources =
    crates: extra:
    fs.toSource {
      inherit root;
      fileset = fs.unions (
        [
          (root + "/Cargo.toml")
          (root + "/Cargo.lock")
          (fs.fileFilter (file: file.name == "Cargo.toml") (root + "/services"))
        ]
        ++ map (crate: fs.fileFilter (file: !file.hasExt "md") (root + "/services/${crate}")) (
          [ "flight" ] ++ crates
        )
        ++ extra
      );
    };
  migrations = root + "/sql/migrations";
  workspace = fs.toSource {
    inherit root;
    fileset = fs.unions [
      (root + "/Cargo.toml")
      (root + "/Cargo.lock")
      (root + "/clippy.toml")
      (root + "/deny.toml")
      (root + "/services")
      (root + "/sql")
    ];
  };

  common = {
    inherit version;
    strictDeps = true;
    # librdkafka's own configure script cannot run in the sandbox, its CMake build can.
    nativeBuildInputs = [
      pkgs.cmake
      pkgs.perl
      pkgs.pkg-config
    ];
    buildInputs = [
      pkgs.curl
      pkgs.openssl
      pkgs.zlib
      pkgs.zstd
    ];
    # CMake is run by a build script, not by the builder.
    dontUseCmakeConfigure = true;
  };
  features = "--features flight/cmake-build";

  dependencies = craneLib.buildDepsOnly (
    common
    // {
      pname = "contrail";
      src = workspace;
      cargoExtraArgs = "--locked --workspace ${features}";
    }
  );

  program =
    {
      pname,
      src,
      description,
      postInstall ? "",
      tools ? [ ],
    }:
    craneLib.buildPackage (
      common
      // {
        inherit pname src postInstall;
        nativeBuildInputs = common.nativeBuildInputs ++ tools;
        cargoArtifacts = dependencies;
        # A member of the workspace must have something to build.
        postPatch = ''
          for crate in services/*; do
            [ -d $crate/src ] || install -D /dev/null $crate/src/lib.rs
          done
        '';
        # By --workspace and not -p: Cargo gives dependencies the features that the selected crates ask for,
        # and with others than `dependencies` has, librdkafka among them would be built anew.
        cargoExtraArgs = "--locked --workspace ${features}";
        cargoBuildExtraArgs = "--bin ${pname}";
        # The tests run once, over the whole workspace, in the check `nextest`.
        doCheck = false;
        meta = {
          inherit description;
          license = lib.licenses.asl20;
          mainProgram = pname;
          platforms = lib.platforms.linux;
        };
      }
    );

  programs = {
    flight-mock = program {
      pname = "flight-mock";
      src = sources [ "mock" ] [ ];
      description = "Simulates air traffic as a log of positions that can be read from any offset";
    };
    flight-producer = program {
      pname = "flight-producer";
      src = sources [ "producer" ] [ ];
      description = "Reads a source of flight positions and writes each to Kafka exactly once";
    };
    flight-ingester = program {
      pname = "flight-ingester";
      src = sources [ "ingester" ] [ migrations ];
      description = "Reads positions from Kafka and inserts them into ClickHouse, each exactly once";
    };
    clickhouse-embedded = program {
      pname = "clickhouse-embedded";
      src = sources [ "clickhouse-embedded" ] [ ];
      description = "The ClickHouse HTTP interface over libchdb";
    };
    contrail = program {
      pname = "contrail";
      src = sources [ "stack" "mock" ] [ (root + "/sql") ];
      description = "Starts, watches and verifies the local flight-data stack";
      # `contrail query` reads them.
      tools = [ pkgs.makeWrapper ];
      postInstall = ''
        mkdir -p $out/share/contrail
        cp -r sql $out/share/contrail/
        wrapProgram $out/bin/contrail --set-default CONTRAIL_SHARE $out/share/contrail
      '';
    };
  };

  akhq = pkgs.callPackage ./akhq.nix { };
  engines = import ./engines.nix { parts = root + "/services/stack/parts"; };
  demo = pkgs.callPackage ./demo.nix {
    inherit (programs)
      flight-mock
      flight-producer
      flight-ingester
      clickhouse-embedded
      contrail
      ;
    parts = pkgs.callPackage ./parts.nix {
      source = root + "/services/stack/parts";
      inherit engines;
    };
  };

  cargo = common // {
    pname = "contrail";
    src = workspace;
    cargoArtifacts = dependencies;
  };
in
assert lib.assertMsg (lib.versionAtLeast pkgs.rustc.version rust-version)
  "contrail needs Rust ${rust-version}, and this nixpkgs has ${pkgs.rustc.version}: follow the nixpkgs of contrail's own flake.lock";
{
  packages =
    programs
    // {
      inherit akhq;
      default = programs.contrail;
    }
    # The engine is published for some processors only.
    // lib.optionalAttrs (engines ? ${pkgs.stdenv.hostPlatform.system}) { inherit demo; };

  checks = {
    clippy = craneLib.cargoClippy (
      cargo
      // {
        cargoExtraArgs = "--locked --workspace ${features}";
        cargoClippyExtraArgs = "--all-targets -- --deny warnings";
      }
    );
    doc = craneLib.cargoDoc (
      cargo
      // {
        cargoExtraArgs = "--locked --workspace ${features}";
        env.RUSTDOCFLAGS = "--deny warnings";
      }
    );
    fmt = craneLib.cargoFmt {
      pname = "contrail";
      inherit version;
      src = workspace;
    };
    # Unit tests and those that need no other program; the others run under `make test` and in VMs.
    nextest = craneLib.cargoNextest (
      cargo
      // {
        cargoExtraArgs = "--locked --workspace ${features}";
        cargoNextestExtraArgs = "--lib --bins";
      }
    );
    deny = craneLib.cargoDeny {
      pname = "contrail";
      inherit version;
      src = workspace;
    };
  };
}
