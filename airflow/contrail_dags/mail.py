"""Mails, by Airflow's SMTP connection."""

import html

from contrail_dags import settings


class MailError(Exception):
    """A mail cannot be handed over."""


def send(configuration: settings.Mail, subject: str, text: str) -> None:
    """Sends a text to those who are to know."""
    # It takes a while to import, and DAGs are imported every few seconds.
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    try:
        with SmtpHook(smtp_conn_id=configuration.connection) as hook:
            hook.send_email_smtp(
                to=list(configuration.to),
                from_email=configuration.sender,
                subject=f"[contrail] {subject}",
                html_content=f"<pre>{html.escape(text)}</pre>",
            )
    # Whatever a server, a name server or the connection's settings can come to.
    except Exception as error:
        raise MailError(
            f"the mail {subject!r} to {', '.join(configuration.to)} cannot be handed over by connection"
            f" {configuration.connection}: {type(error).__name__}: {error}"
        ) from error
