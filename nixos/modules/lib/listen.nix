# Addresses of the form host:port.
{ lib }:
{
  portOf =
    address:
    let
      text = lib.last (lib.splitString ":" address);
    in
    if builtins.match "[0-9]+" text == null then
      throw "${address} is not an address with a port, such as 127.0.0.1:8000"
    else
      lib.toInt text;
}
