# The server that takes mails, as the services that send some name it.
{
  lib,
  contrail,
  secrets,
}:
let
  inherit (lib) mkOption types;
in
{
  options = {
    host = mkOption {
      type = types.str;
      default = contrail.localAddress;
      defaultText = lib.literalExpression "this host";
      description = "Server that takes mails.";
    };
    port = mkOption {
      type = types.port;
      default = contrail.mail.smtpPort or 1025;
      defaultText = lib.literalExpression "config.services.contrail.mail.smtpPort";
      description = "Its port.";
    };
    user = mkOption {
      type = types.str;
      default = "";
      description = "User, if the server asks for one.";
    };
    passwordFile = secrets.file {
      description = "File that holds the user's password.";
      example = "/run/secrets/smtp";
    };
    from = mkOption {
      type = types.str;
      default = "contrail@localhost";
      description = "Sender of the mails.";
    };
  };

  # The assertion that a user has a password. `option` is the service's.
  complete = option: smtp: {
    assertion = smtp.user == "" || smtp.passwordFile != null;
    message = "${option}.smtp.user is set: set smtp.passwordFile too";
  };
}
