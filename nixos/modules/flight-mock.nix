# The simulator of air traffic.
{
  config,
  lib,
  pkgs,
  ...
}:
(import ./lib/rust-service.nix { inherit config lib pkgs; }).module {
  name = "flight-mock";
  option = "mock";
  title = "a simulator of air traffic that any offset can be asked of";
  description = "Simulator of air traffic";
  port = 8000;
  serves = "the streams, and of /healthz, /readyz and /metrics";
  memoryMax = "512M";
}
