# `nix run .#stack` and `nix run .#demo`.
{ packages }:
let
  app = package: program: description: {
    type = "app";
    program = "${package}/bin/${program}";
    meta = { inherit description; };
  };
  stack =
    app packages.stack "contrail-stack"
      "The whole flight-data platform in a VM, its ports on the loopback";
in
{
  inherit stack;
  default = stack;
}
// (
  if packages ? demo then
    { demo = app packages.demo "contrail-demo" "The local flight-data stack, without a VM"; }
  else
    { }
)
