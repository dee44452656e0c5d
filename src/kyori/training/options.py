"""Options by name: checked against a constructor's signature, placed in the configuration, errors in words."""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ..errors import ConfigError, nearest_name

__all__ = ["check_options", "describe_errors", "flat_names", "option_names", "place_options", "switches"]

HEAD_SIZES = ("num_classes", "embedding_size")  # known only once the data and the model are


def option_names(constructor: Callable[..., Any]) -> list[str]:
    """Return the options a loss's constructor takes, without the sizes that the data decides."""
    return [name for name in inspect.signature(constructor).parameters if name not in HEAD_SIZES]


def check_options(
    subject: str, constructor: Callable[..., Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Convert ``options`` to the types in the constructor's signature.

    Args:
        subject: What has these options, as it stands in messages, e.g. ``"loss 'triplet'"``.
        constructor: A class or function with annotated parameters.
        options: Values by name; strings become numbers where numbers are wanted.

    Raises:
        ValueError: One line for each unknown name or value of the wrong type.

    >>> def hinge(margin: float = 0.2, mining: str = "all"): ...
    >>> check_options("hinge", hinge, {"margin": "1e-1"})
    {'margin': 0.1}
    >>> check_options("hinge", hinge, {"margn": 1})
    Traceback (most recent call last):
    ...
    ValueError: margn: hinge has no option 'margn'; did you mean 'margin'?
    """
    known = option_names(constructor)
    lines = [
        f"{name}: {subject} has no option '{name}'{nearest_name(name, known)}"
        for name in options
        if name not in known
    ]
    given = {name: value for name, value in options.items() if name in known}
    parameters = inspect.signature(constructor, eval_str=True).parameters
    hints = {n: Any if p.annotation is p.empty else p.annotation for n, p in parameters.items()}
    fields: dict[str, Any] = {name: (hints[name], ...) for name in given}
    model = create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
    try:
        values = {name: getattr(model(**given), name) for name in given}
    except ValidationError as error:
        lines += [f"{'.'.join(path)}: {text}" for path, text in _lines(error, model)]
    else:
        lines += [
            f"{name}: must be a number; got {given[name]}"  # pydantic reads true as 1
            for name, value in values.items()
            if isinstance(given[name], bool) and not isinstance(value, bool)
        ]
    if lines:
        raise ValueError("\n".join(lines))
    return values


def describe_errors(error: ValidationError, model: type[BaseModel]) -> str:
    """Say every error of a configuration in one line each: where, what was expected, what came."""
    lines = [f"{'.'.join(path)}: {text}" if path else text for path, text in _lines(error, model)]
    count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    return f"the configuration has {count}:\n  " + "\n  ".join(lines)


def flat_names(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Map each setting's own name to its path, e.g. ``{"lr": ("optimizer", "lr"), ...}``.

    The name or kind of a section is left out: the section's own name stands for it (``loss="arcface"``).
    """
    return {path[-1]: path for path in _leaves(model) if path[-1] not in ("name", "kind")}


def place_options(
    tree: dict[str, Any], options: Mapping[str, Any], model: type[BaseModel], losses: Mapping[str, type]
) -> None:
    """Put flat ``options`` into the nested ``tree`` of a configuration, in place; see `RunConfig.from_options`."""
    options = {name: _scalar(value) for name, value in options.items()}
    for section, key in _chosen_by_name(model).items():
        if section in options and not isinstance(options[section], Mapping):
            _choose(tree, section, key, str(options.pop(section)))
    loss = losses.get(str(tree["loss"].get("name")))
    loss_options = option_names(loss) if loss else []
    unknown = []
    for name, value in options.items():
        try:
            path = _path(name, model, loss_options)
        except LookupError as error:
            others = _users(name, losses)
            unknown.append(f"{others}; the loss is {tree['loss']['name']}" if others else str(error.args[0]))
            continue
        if path[0] == name and isinstance(value, Mapping):  # a whole section
            tree[name] = {**tree[name], **value}
        else:
            node = tree if len(path) == 1 else tree[path[0]]
            node[path[-1]] = value
    if unknown:
        raise ConfigError("the configuration has unknown options:\n  " + "\n  ".join(unknown))


def switches(model: type[BaseModel], losses: Mapping[str, type]) -> set[str]:
    """Return the names of the settings and of the losses' options that are on or off, wherever they occur."""
    types = [(path[-1], annotation) for path, annotation in _annotated(model)]
    for constructor in losses.values():
        parameters = inspect.signature(constructor, eval_str=True).parameters
        types += [(name, parameter.annotation) for name, parameter in parameters.items()]
    return {name for name, annotation in types if annotation is bool} - {
        name for name, annotation in types if annotation is not bool
    }


def _chosen_by_name(model: type[BaseModel]) -> dict[str, str]:
    """Sections that a bare string chooses: loss, optimizer, schedule by name, batches by kind."""
    return {path[0]: path[1] for path in _leaves(model) if path[-1] in ("name", "kind")}


def _choose(tree: dict[str, Any], section: str, key: str, value: str) -> None:
    if section == "loss" and tree["loss"].get("name") != value:
        tree["loss"] = {}  # the options of one loss mean nothing to another
    tree[section][key] = value


def _path(name: str, model: type[BaseModel], loss_options: list[str]) -> tuple[str, ...]:
    flat, dotted = flat_names(model), {".".join(path): path for path in _leaves(model)}
    if name in dotted:
        return dotted[name]
    if name.startswith("loss."):
        return ("loss", name.removeprefix("loss."))
    if name in model.model_fields:
        return (name,)
    if name in flat and name in loss_options:
        raise LookupError(
            f"'{name}' is both {'.'.join(flat[name])} and loss.{name}; write one of these in full"
        )
    if name in flat:
        return flat[name]
    if name in loss_options:
        return ("loss", name)
    known = [*flat, *loss_options, *_chosen_by_name(model)]
    raise LookupError(f"'{name}' is unknown{nearest_name(name.rpartition('.')[2], known)}")


def _users(name: str, losses: Mapping[str, type]) -> str:
    """Say which losses have an option, for one that the selected loss has not."""
    users = [loss for loss, constructor in losses.items() if name in option_names(constructor)]
    return f"'{name}' is an option of the loss{'es' * (len(users) > 1)} {', '.join(users)}" if users else ""


def _scalar(value: Any) -> Any:
    """Read a string as a command line means it: null, true, 3, [1, 2]; other strings stay."""
    if not isinstance(value, str):
        return value
    try:
        return yaml.safe_load(value) if value.strip() else value
    except yaml.YAMLError:
        return value


def _leaves(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    return (path for path, _ in _annotated(model))


def _annotated(model: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the type of each setting."""
    for name, field in model.model_fields.items():
        if _is_model(field.annotation):
            section = typing.cast(type[BaseModel], field.annotation)
            yield from (((name, *path), annotation) for path, annotation in _annotated(section))
        else:
            yield (name,), field.annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _lines(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[str, ...], str]]:
    """One (path, text) for each wrong setting; the branches of a union are joined by "or"."""
    found: dict[tuple[str, ...], list[str]] = {}
    for item in error.errors(include_url=False):
        path, known = _known_path(item["loc"], model)
        if item["type"] == "extra_forbidden":
            found[path] = [f"unknown key{nearest_name(path[-1], known)}"]
        elif item["type"] == "value_error":
            for line in str(item["ctx"]["error"]).splitlines():
                name, colon, text = line.partition(": ")  # an option below this path
                where = ((*path, name), text) if colon and path and name.isidentifier() else (path, line)
                found.setdefault(where[0], []).append(where[1])
        else:
            text = item["msg"].replace("Input should be", "must be").partition(", unable to parse")[0]
            found.setdefault(path, []).append(f"{text}; got {item['input']!r}")
    return [entry for path, texts in found.items() for entry in _joined(path, texts)]


def _joined(path: tuple[str, ...], texts: list[str]) -> list[tuple[tuple[str, ...], str]]:
    if len(texts) > 1 and all("; got " in text for text in texts):  # branches of a union: one line
        got = texts[0].rpartition("; got ")[2]
        wanted = dict.fromkeys(text.rpartition("; got ")[0].removeprefix("must be ") for text in texts)
        return [(path, f"must be {' or '.join(wanted)}; got {got}")]
    return [(path, text) for text in texts]


def _known_path(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[tuple[str, ...], list[str]]:
    """The part of a pydantic location that names settings, and the names known where it ends."""
    path: tuple[str, ...] = ()
    node: Any = model
    for part in loc:
        known = list(node.model_fields)
        path += (str(part),)
        if part not in node.model_fields:
            return path, known
        node = node.model_fields[part].annotation
        if not _is_model(node):
            return path, known
    return path, []
