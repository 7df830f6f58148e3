"""Takes mails, and lists them as Mailpit's API does, the newest first: mail_catcher.py SMTP_PORT PAGE_PORT."""

import email
import email.message
import email.policy
import http.server
import json
import socketserver
import sys
import threading

MAILS: list[email.message.EmailMessage] = []


class Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs to hand over a mail."""

    def handle(self) -> None:
        self.say("220 ready")
        while line := self.rfile.readline().decode(errors="replace").strip():
            verb = line.split()[0].upper()
            if verb == "DATA":
                self.say("354 go on")
                body = b""
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    body += part.removeprefix(b".")
                MAILS.append(email.message_from_bytes(body, policy=email.policy.default))
            self.say("221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                return

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


class Page(http.server.BaseHTTPRequestHandler):
    """/api/v1/messages, the newest first."""

    def do_GET(self) -> None:
        shown = [
            {"Subject": mail["Subject"], "Snippet": str(mail.get_body().get_content())}
            for mail in reversed(MAILS)
            if (mail.get_body()) is not None
        ]
        body = json.dumps({"total": len(shown), "messages": shown}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


smtp = socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Smtp)
threading.Thread(target=smtp.serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Page).serve_forever()
