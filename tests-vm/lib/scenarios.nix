# Puts scenarios before a test's own script. Scenarios are Python modules, so that the local tests can import
# them; a test script is one text, so imports come first and once, and what a scenario imports from another one
# is left out: list that one before it.
{ lib }:
names: script:
let
  lines = lib.concatMap (
    name: lib.splitString "\n" (lib.readFile (../scenarios + "/${name}.py"))
  ) names;
  isImport = lib.hasPrefix "import ";
  isLocal = lib.hasPrefix "from scenarios.";
  imports = lib.unique (lib.filter isImport lines);
  rest = lib.filter (line: !isImport line && !isLocal line) lines;
in
lib.concatStringsSep "\n" (imports ++ rest) + "\n\n" + script
