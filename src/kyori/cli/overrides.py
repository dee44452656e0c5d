"""``--key value`` for every key of the configuration, without listing each as an option."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from ..errors import ConfigError

__all__ = ["OVERRIDES", "ConfigCommand", "parse_overrides"]

OVERRIDES = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Any key of the configuration; `--key value` is short for `--set key=value`. "
    "`kyori train --print-config` shows all keys.",
)


class ConfigCommand(TyperCommand):
    """A command that reads an option it does not declare, ``--margin 0.2``, as ``--set margin=0.2``.

    The words stay in any order: ``kyori train --margin 0.2 photos/`` and ``kyori train photos/ --margin=0.2`` are
    the same. What is on or off needs no value: ``--pretrained``, ``--no-normalize``. Whether the key exists is for the
    configuration to say, which knows the nearest name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        declared = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        return super().parse_args(ctx, _as_set(args, declared))


def _as_set(args: list[str], declared: set[str]) -> list[str]:
    known: list[str] = []
    rest = list(reversed(args))
    while rest:
        word = rest.pop()
        if word == "--":
            return [*known, word, *reversed(rest)]
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in declared:
            known.append(word)
            continue
        key = name[2:].replace("-", "_")
        if not equals and (switch := _switch(key, rest[-1] if rest else None)):
            key, value = switch
        elif not equals:
            if not rest or rest[-1].startswith("--"):
                raise ConfigError(f"{name} needs a value, as in {name} VALUE; got none.")
            value = rest.pop()
        known += ["--set", f"{key}={value}"]
    return known


def _switch(key: str, following: str | None) -> tuple[str, str] | None:
    """Return key and value where a key stands alone that is on or off."""
    if following is not None and following.lower() in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        return None
    from ..training import RunConfig

    switches = RunConfig.switches()
    if key in switches:
        return key, "true"
    without = key.removeprefix("no_")
    return (without, "false") if without != key and without in switches else None


def parse_overrides(pairs: list[str], **named: Any) -> dict[str, Any]:
    """Turn ``["margin=0.2", …]`` and the options that were given by name into one mapping.

    >>> parse_overrides(["margin=0.2", "betas=[0.9, 0.99]"], epochs=3, lr=None)
    {'epochs': 3, 'margin': 0.2, 'betas': [0.9, 0.99]}
    """
    import yaml

    options = {key: value for key, value in named.items() if value is not None}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set expects KEY=VALUE; got {pair!r}.")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            options[key] = text
    return options
