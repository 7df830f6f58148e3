# AKHQ, a web interface to Kafka. nixpkgs has no Kafka UI; upstream publishes one runnable jar.
{
  lib,
  stdenvNoCC,
  fetchurl,
  makeWrapper,
  jre_headless,
}:
stdenvNoCC.mkDerivation (finalAttrs: {
  pname = "akhq";
  version = "0.28.0";

  src = fetchurl {
    url = "https://github.com/tchiotludo/akhq/releases/download/${finalAttrs.version}/akhq-${finalAttrs.version}-all.jar";
    hash = "sha256-uzxfj/UuZ/qLMySmWXZk+qRn2+O2DAU+bZcwSmB5tco=";
  };

  nativeBuildInputs = [ makeWrapper ];
  dontUnpack = true;

  installPhase = ''
    runHook preInstall
    install -Dm444 $src $out/share/akhq/akhq.jar
    makeWrapper ${lib.getExe jre_headless} $out/bin/akhq \
      --add-flags "-cp $out/share/akhq/akhq.jar org.akhq.App"
    runHook postInstall
  '';

  meta = {
    description = "Web interface to Kafka: topics, records, consumer groups, schema registry";
    homepage = "https://akhq.io";
    license = lib.licenses.asl20;
    sourceProvenance = [ lib.sourceTypes.binaryBytecode ];
    mainProgram = "akhq";
    platforms = lib.platforms.linux;
  };
})
