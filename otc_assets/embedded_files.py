"""The files of an embedded PostgreSQL server from which a client on this machine makes a URL: port and passwords.

``local.server_folder`` writes them, and runs the server. Only the account that started the server can read passwords.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

#: The folder of the server in ``OTC_HOME``, and its database.
FOLDER, DATABASE = "postgres", "otc"

#: Its logins: the owner of the schema, and members of ``otc_writer`` and ``otc_reader``.
OWNER, APP, ANALYST = "otc", "otc_app", "otc_analyst"


def port_file(folder: Path) -> Path:
    """The file with the port of the server, as it was last started."""
    return folder / "port"


def password_file(folder: Path, login: str) -> Path:
    """The file with the password of a login; only its owner may read it."""
    return folder / f"password-{login}"


def url_of(folder: Path, login: str) -> str:
    """The URL of the server in ``folder`` for a login.

    Raises:
        OSError: there is no server, it has no such login yet, or this account may not read the password.
    """
    password = password_file(folder, login).read_text().strip()
    return f"postgresql://{login}:{quote(password)}@127.0.0.1:{port_file(folder).read_text().strip()}/{DATABASE}"
