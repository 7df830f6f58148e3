# What the local stack runs and is not built here, as `contrail parts` lays it out: the same files, held
# to the same sums, with the stamps that tell `contrail` so.
{
  lib,
  stdenv,
  fetchurl,
  linkFarm,
  runCommand,
  # services/stack/parts: names, sums and Maven paths.
  source,
  engines,
}:
let
  linesOf = file: lib.filter (line: line != "") (lib.splitString "\n" (builtins.readFile file));
  # Name to SHA-256.
  sums =
    part:
    lib.listToAttrs (
      map (
        line:
        let
          fields = lib.splitString "  " line;
        in
        lib.nameValuePair (lib.elemAt fields 1) (lib.elemAt fields 0)
      ) (linesOf (source + "/${part}.sha256"))
    );
  maven =
    path: sha256:
    fetchurl {
      url = "mirror://maven/${path}";
      inherit sha256;
    };

  kafkaSums = sums "kafka";
  jars = map (path: {
    name = baseNameOf path;
    path = maven path kafkaSums.${baseNameOf path};
  }) (linesOf (source + "/kafka.paths"));
  kafka =
    assert lib.assertMsg (
      lib.sort lib.lessThan (map (jar: jar.name) jars) == lib.attrNames kafkaSums
    ) "services/stack/parts: kafka.paths and kafka.sha256 list different files";
    linkFarm "kafka-libs" jars;

  archive = lib.head (lib.attrNames (sums "registry"));
  version = lib.removePrefix "apicurio-registry-app-" (lib.removeSuffix "-all.tar.gz" archive);
  registry =
    maven "io/apicurio/apicurio-registry-app/${version}/${archive}"
      (sums "registry").${archive};

  engine = fetchurl engines.${stdenv.hostPlatform.system};

  # Tells `contrail` what a part holds and for which list of sums it was fetched.
  stamp = part: "stamp ${part} ${builtins.hashFile "sha256" (source + "/${part}.sha256")}\n";
in
runCommand "contrail-parts" { } ''
  mkdir -p $out/kafka/libs $out/registry $out/engine
  cp -L ${kafka}/*.jar $out/kafka/libs/
  tar -xzf ${registry} -C $out/registry
  tar -xzf ${engine} -C $out/engine --strip-components=1 package/libchdb.so
  (cd $out/engine && sha256sum --check ${source + "/engine.sha256"})

  # Files of the store are dated one second after 1970.
  stamp() {
    cd $out/$1
    find . -type f -printf '%P\n' | LC_ALL=C sort > $TMPDIR/files
    printf 'fetched for %s\n' $2 > .stamp
    while IFS= read -r file; do
      read -r sum _ < <(sha256sum "$file")
      printf '%s %s 1000000000 %s\n' "$sum" "$(stat -c %s "$file")" "$file" >> .stamp
    done < $TMPDIR/files
  }
  ${lib.concatMapStrings stamp [
    "kafka"
    "registry"
    "engine"
  ]}
''
