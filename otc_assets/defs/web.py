"""The Dagster UI that ``otc-assets up`` serves: Dagster's own web server, behind the checks of ``http_guard``.

``python -m otc_assets.defs.web`` takes the options of ``dagster-webserver``. With ``dagster-dev`` as its first argument
it takes those of ``dagster dev``, and runs the guarded web server in place of Dagster's. Starting and stopping these
processes is in ``local.services``.

Dagster has no setting for this, so two of its names are replaced here. If a release no longer has them, the program
ends with an error and serves nothing.

- ``dagster_webserver.cli.create_app_from_workspace_process_context`` creates the web application. Only this function
  is replaced, so that all of Dagster's options and its shutdown remain.
- ``dagster._cli.dev.open_ipc_subprocess`` starts the processes of ``dagster dev``, which has the module name of its web
  server in its code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from otc_assets.http_guard import Guard
from otc_assets.settings import public_environment, settings

#: The secrets that web server and daemon need: both read the database, and the web server the logs of steps on S3.
_OF_WEB_AND_DAEMON = (
    "OTC_DATABASE_URL",
    "OTC_DAGSTER_STORAGE_URL",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)


def serve() -> None:
    """Runs dagster-webserver with the options in ``sys.argv``, behind the guard."""
    from dagster_webserver import cli

    create = cli.create_app_from_workspace_process_context

    def create_guarded(*arguments: Any, **options: Any) -> Any:
        app = create(*arguments, **options)
        chosen = settings()
        app.add_middleware(Guard, names=chosen.host_names, public_url=chosen.public_url)
        return app

    cli.create_app_from_workspace_process_context = create_guarded
    cli.main()


def dev(arguments: Sequence[str]) -> None:
    """Runs ``dagster dev`` with our web server in place of Dagster's."""
    from otc_assets.defs.internals import dagster_dev_command

    dagster_dev = dagster_dev_command()
    dagster_dev.open_ipc_subprocess = _with_our_webserver(dagster_dev.open_ipc_subprocess)
    dagster_dev.dev_command.main(args=list(arguments), prog_name="dagster dev")


def _with_our_webserver(start: Callable[..., Any]) -> Callable[..., Any]:
    environment = public_environment(*_OF_WEB_AND_DAEMON)

    def start_guarded(parts: Sequence[str], **options: Any) -> Any:
        python, flag, module, *rest = parts
        if (flag, module) not in (("-m", "dagster_webserver"), ("-m", "dagster._daemon")):
            raise RuntimeError(f"this release of Dagster starts an unknown process: {module}")
        if module == "dagster_webserver":
            module = "otc_assets.defs.web"
        # Only the code server, which is running already, asks FINRA and sends alerts.
        return start([python, flag, module, *rest], env=environment, **options)

    return start_guarded


if __name__ == "__main__":
    if sys.argv[1:2] == ["dagster-dev"]:
        dev(sys.argv[2:])
    else:
        serve()
