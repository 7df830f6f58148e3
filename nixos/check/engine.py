"""Gives the engine the configuration that the NixOS module generates, and asks it what it took over.

python3 engine.py LIBCHDB CONFIG_YAML USERS_YAML
"""

import ctypes
import json
import os
import pathlib
import shutil
import sys
import tempfile
import typing
from xml.sax.saxutils import escape, quoteattr

# What the distribution's own files hold in the places that the generated ones are merged into.
CONFIG = """<clickhouse>
    <logger><level>none</level><log>/var/log/x.log</log><errorlog>/var/log/x.err.log</errorlog></logger>
    <mysql_port>9004</mysql_port><postgresql_port>9005</postgresql_port>
    <interserver_http_port>9009</interserver_http_port>
    <users_config>{users}</users_config>
    <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
</clickhouse>"""
USERS = """<clickhouse>
    <profiles><default/></profiles>
    <users><default><password/><networks><ip>::/0</ip></networks><profile>default</profile>
        <quota>default</quota></default></users>
    <quotas><default/></quotas>
</clickhouse>"""


def xml(tree: dict[str, typing.Any]) -> str:
    """A tree of YAML as the server reads it; the library is built without its reader of YAML.

    A name is an element, a list is an element again and again, and @name is an attribute.
    """
    text = ""
    for name, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                attributes = "".join(
                    f" {key[1:]}={quoteattr(str(inner))}"
                    for key, inner in item.items()
                    if key.startswith("@")
                )
                inside = xml({key: inner for key, inner in item.items() if key[0] != "@"})
                text += f"<{name}{attributes}>{inside}</{name}>"
            elif not name.startswith("@"):
                shown = str(item).lower() if isinstance(item, bool) else str(item)
                text += f"<{name}>{escape(shown)}</{name}>"
    return text


def ask(library: ctypes.CDLL, connection: typing.Any, sql: str) -> str:
    """The answer to one statement."""
    library.chdb_query.restype = ctypes.c_void_p
    result = library.chdb_query(ctypes.c_void_p(connection), sql.encode(), b"TSV")
    library.chdb_result_error.restype = ctypes.c_char_p
    error = library.chdb_result_error(ctypes.c_void_p(result))
    if error:
        raise RuntimeError(f"{sql}: {error.decode()}")
    library.chdb_result_buffer.restype = ctypes.c_void_p
    library.chdb_result_length.restype = ctypes.c_size_t
    length = library.chdb_result_length(ctypes.c_void_p(result))
    text = ctypes.string_at(library.chdb_result_buffer(ctypes.c_void_p(result)), length)
    return text.decode().strip()


def main() -> int:
    """Starts the engine on the files, and compares what it says with what they say."""
    path, server_yaml, users_yaml = sys.argv[1:]
    server = json.loads(pathlib.Path(server_yaml).read_text())
    users = json.loads(pathlib.Path(users_yaml).read_text())
    for name in users["users"]:
        os.environ[f"CLICKHOUSE_PASSWORD_SHA256_{name.upper()}"] = "0" * 64
    folder = pathlib.Path(tempfile.mkdtemp(prefix="contrail-engine-"))
    try:
        config, people = folder / "config.xml", folder / "users.xml"
        config.write_text(CONFIG.format(users=people))
        people.write_text(USERS)
        for name, source in (("config.d", server_yaml), ("users.d", users_yaml)):
            (folder / name).mkdir()
            tree = json.loads(pathlib.Path(source).read_text())
            (folder / name / "100.xml").write_text(f"<clickhouse>{xml(tree)}</clickhouse>")
        # Everything in the library runs as its user default, whom the configuration removes.
        (folder / "users.d/900.xml").write_text(
            "<clickhouse><users><default><password/><networks><ip>::/0</ip></networks>"
            "<profile>default</profile><quota>default</quota>"
            "<access_management>1</access_management></default></users></clickhouse>"
        )
        (folder / "config.d/900.xml").write_text(
            "<clickhouse><logger><level>none</level></logger></clickhouse>"
        )
        library = ctypes.CDLL(path)
        words = ["clickhouse", f"--path={folder / 'data'}", f"--config-file={config}"]
        argv = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
        library.chdb_connect.restype = ctypes.POINTER(ctypes.c_void_p)
        holder = library.chdb_connect(len(words), argv)
        if not holder:
            print("the engine does not start on the generated files", file=sys.stderr)
            return 1
        connection = holder[0]
        took = 0
        for name, value in users["profiles"]["default"].items():
            sql = f"SELECT value FROM system.settings WHERE name = '{name}'"
            found = ask(library, connection, sql)
            assert found == str(value), f"profile default: {name} is {found}, not {value}"
            took += 1
        name = "max_server_memory_usage"
        sql = f"SELECT value FROM system.server_settings WHERE name = '{name}'"
        found = ask(library, connection, sql)
        assert found == str(server[name]), f"{name} is {found}, not {server[name]}"
        took += 1
        for what in ("users", "quotas", "settings_profiles"):
            wanted = {
                entry
                for entry, value in users[what.removeprefix("settings_")].items()
                if "@remove" not in value
            }
            there = set(ask(library, connection, f"SELECT name FROM system.{what}").split())
            assert wanted <= there, f"{what}: {there} without {wanted - there}"
            took += len(wanted)
        version = ask(library, connection, "SELECT version()")
        print(
            f"{version} starts on the generated files, {took} settings, users, profiles and quotas are in force"
        )
        # Its threads would outlive what is torn down at exit.
        sys.stdout.flush()
        shutil.rmtree(folder)
        os._exit(0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
