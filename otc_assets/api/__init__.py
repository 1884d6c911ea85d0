"""The HTTP API and the MCP server: the client's verbs for programs that are not Python.

``app`` assembles the application. ``routes`` has a path for each verb; its parameters are in ``parameters``, their
description in ``openapi``. ``pages`` reads a page, ``formats`` encodes it, and ``responses`` adds what HTTP knows of
caching. ``access`` has keys and rate limits, ``edge`` what is done with every request, ``observing`` the metrics.
``serving`` runs the server. ``openbb`` describes the paths to OpenBB Workspace. ``tools`` is the MCP server, which
needs no HTTP. Nothing here has SQL: what can be read is declared in ``client.verbs``.
"""
