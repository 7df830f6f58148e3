# The local stack of `make start` as one package. Nothing is fetched at run time; what it keeps lies in
# $CONTRAIL_STATE, or contrail-state in the working directory.
{
  lib,
  symlinkJoin,
  writeShellApplication,
  jre_headless,
  flight-mock,
  flight-producer,
  flight-ingester,
  clickhouse-embedded,
  contrail,
  parts,
}:
let
  binaries = symlinkJoin {
    name = "contrail-binaries";
    paths = [
      flight-mock
      flight-producer
      flight-ingester
      clickhouse-embedded
    ];
  };
in
writeShellApplication {
  name = "contrail-demo";
  text = ''
    export CONTRAIL_STATE="''${CONTRAIL_STATE:-$PWD/contrail-state}"
    export CONTRAIL_PARTS=${parts}
    export CONTRAIL_BINARIES=${binaries}/bin
    export CONTRAIL_SHARE=${contrail}/share/contrail
    export CONTRAIL_JAVA=${lib.getExe jre_headless}
    # Without a command: start the stack and watch it. Any command of `contrail` can follow.
    if [ $# -eq 0 ]; then
      set -- up
    fi
    exec ${lib.getExe contrail} "$@"
  '';
  meta = {
    description = "The local flight-data stack: Kafka, schema registry, ClickHouse engine and the services";
    license = lib.licenses.asl20;
    platforms = [ "x86_64-linux" ];
  };
}
