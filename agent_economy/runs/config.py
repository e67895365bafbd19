"""Typed configs: a strict pydantic tree, read from TOML plus ``key=value`` overrides."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from agent_economy.errors import EconomyError, unknown


class StrictModel(BaseModel):
    """The base of every config: unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=StrictModel)


def load_toml(config_type: type[C], path: Path | None, overrides: list[str]) -> C:
    """A config from a TOML file with some values set by hand.

    Args:
        config_type: the config's class; its defaults hold where neither source speaks.
        path: the TOML file, or None for defaults alone.
        overrides: ``key.sub=value``; the value is read as TOML, a bare word as a string.

    Raises:
        EconomyError: one line that names the file, the key and what was expected.
    """
    source = str(path) if path else "defaults"
    tree = read_toml(path) if path else {}
    for override in overrides:
        key, value = _parse_override(override)
        _put(tree, key, value)
    try:
        return config_type.model_validate(tree)
    except ValidationError as error:
        raise _explain(config_type, error, tree, source, overrides) from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tree of a TOML file.

    Raises:
        EconomyError: the file cannot be read, is not UTF-8, or its syntax is wrong (with the line).
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EconomyError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EconomyError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise EconomyError(f"{path} is not valid TOML: {error}") from error


def dump_toml(config: StrictModel) -> str:
    """A config as TOML that `load_toml` reads back to an equal config.

    TOML has no null: a value that is None is left out, so None must be that field's default.
    """
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def first_difference(one: Any, other: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first place, in key order, where two TOML trees differ.

    Returns:
        ``(dotted key, value in one, value in other)`` or None where they are equal; a missing
        value is None.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            found = first_difference(
                one.get(name), other.get(name), f"{key}.{name}" if key else name
            )
            if found:
                return found
        return None
    return None if one == other and type(one) is type(other) else (key, one, other)


def _parse_override(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(re.fullmatch(r"[\w-]+", part) for part in parts):
        raise EconomyError(f"cannot read -s {override!r}; write it as key=value or key.sub=value")
    text = text.strip()
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    # More than one key means the text broke out of its line: it was never one TOML value.
    return parts, parsed["value"] if parsed.keys() == {"value"} else text


def _put(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    for depth, part in enumerate(parts[:-1], start=1):
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            inner = ".".join(parts[: depth + 1])
            raise EconomyError(f"cannot set {inner!r}: {'.'.join(parts[:depth])!r} is no table")
    tree[parts[-1]] = value


def _explain(
    config_type: type[StrictModel],
    error: ValidationError,
    tree: dict[str, Any],
    source: str,
    overrides: list[str],
) -> EconomyError:
    """The first complaint of pydantic, as one line a user can act on."""
    complaint = error.errors(include_url=False)[0]
    # Numbers in the place are list indices; the names of union branches are pydantic's own.
    place = [part for part in complaint["loc"] if _in_tree(tree, part) or isinstance(part, int)]
    key = ".".join(map(str, complaint["loc"] if complaint["type"] == "missing" else place))
    set_by_hand = any(o.partition("=")[0].strip() == key for o in overrides)
    where = f"-s {key}" if set_by_hand else source
    if complaint["type"] == "extra_forbidden":
        names = list(_fields(config_type, complaint["loc"][:-1]))
        return EconomyError(f"{where}: {unknown('key', key, names)}")
    if complaint["type"] == "missing":
        return EconomyError(f"{where}: {key!r} is missing; set it with -s {key}=VALUE")
    message = complaint["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    said = "" if isinstance(complaint["input"], dict) else f" (got {complaint['input']!r})"
    about = f"{key!r}: " if key and not set_by_hand else ""
    return EconomyError(f"{where}: {about}{' '.join(message.split())}{said}")


def _in_tree(tree: Any, part: Any) -> bool:
    if isinstance(tree, dict):
        return part in tree or any(_in_tree(value, part) for value in tree.values())
    return isinstance(tree, list) and any(_in_tree(value, part) for value in tree)


def _fields(config_type: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The dotted names that would have worked beside the one that did not."""
    prefix = ""
    for part in place:
        field = config_type.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        config_type, prefix = inner, f"{prefix}{part}."
    return [prefix + name for name in config_type.model_fields]
