# The simulator of air traffic.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.mock;
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
in
{
  options.services.contrail.mock = rust.options {
    name = "flight-mock";
    description = "flight-mock, a simulator of air traffic that any offset can be asked of";
    settings.listen = mkOption {
      type = types.str;
      default = "${contrail.address}:8000";
      defaultText = lib.literalExpression ''"''${config.services.contrail.address}:8000"'';
      description = "Address and port of the streams, and of /healthz, /readyz and /metrics.";
    };
  };

  config = lib.mkIf cfg.enable (
    rust.config {
      name = "flight-mock";
      inherit cfg;
      option = "services.contrail.mock";
      description = "Simulator of air traffic";
      serviceConfig.MemoryMax = lib.mkDefault "512M";
    }
  );
}
