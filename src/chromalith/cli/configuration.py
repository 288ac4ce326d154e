"""``chromalith config``: every setting, its value, and where that value comes from."""

from __future__ import annotations

import os

import typer

from chromalith.cli.invocation import Invocation, command
from chromalith.cli.output import shown
from chromalith.settings import Settings


def declare(app: typer.Typer) -> None:
    """Add ``config`` to the command line."""

    @command(app, "config")
    def config(run: Invocation) -> None:
        r"""Show all settings with their values, and whether each comes from the command line, the environment or the default.

        \b
        Example:
          CHROMALITH_STORE=./store chromalith config
        """
        settings = Settings()
        found = []
        for name, field in Settings.model_fields.items():
            variable = f"CHROMALITH_{name.upper()}"
            value = getattr(settings, name)
            origin = "environment" if variable in os.environ else "default"
            if name in run.given:
                value, origin = run.given[name], "command line"
            plain = value if value is None or isinstance(value, bool | int) else str(value)
            found.append(
                {"name": name, "value": plain, "origin": origin, "variable": variable, "description": field.description}
            )

        def human() -> None:
            rows = [(each["name"], shown(each["value"]), each["origin"], each["variable"]) for each in found]
            run.output.table(("setting", "value", "origin", "variable"), rows)

        run.output.data({"settings": found}, human)
