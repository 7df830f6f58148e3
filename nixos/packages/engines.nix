# libchdb, the ClickHouse engine as a library, by system: npm's package and the integrity that npm itself
# checks, both from the lock file that `make parts` uses.
{ parts }:
let
  lock = builtins.fromJSON (builtins.readFile (parts + "/engine/package-lock.json"));
  names = {
    x86_64-linux = "lib-linux-x64-gnu";
  };
in
builtins.mapAttrs (
  _: name:
  let
    package = lock.packages."node_modules/@chdb/${name}";
  in
  {
    url = "mirror://npm/@chdb/${name}/-/${name}-${package.version}.tgz";
    hash = package.integrity;
  }
) names
