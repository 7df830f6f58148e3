# Puts scenarios before a test's own script. Scenarios are Python modules, so that the local tests can import
# them; a test script is one text, so what a scenario imports from another one is left out here: list that
# one before it.
{ lib }:
names: script:
let
  isLocal = line: lib.hasPrefix "from scenarios." line;
  text =
    name:
    lib.concatStringsSep "\n" (
      lib.filter (line: !isLocal line) (
        lib.splitString "\n" (lib.readFile (../scenarios + "/${name}.py"))
      )
    );
in
lib.concatMapStringsSep "\n\n" text names + "\n\n" + script
