"""Reading YAML that people write: safely, and with the line of every mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import InputError
from harness.files.stored import read_bounded

LIMIT = 1 << 24
"""Bytes of a file that people write, and more than that: a larger one is something else."""

NODES = 1_000_000
"""Nodes of a file that people write, its aliases written out: ten lines of them come to billions, of which a message would tell."""

MERGE = "tag:yaml.org,2002:merge"
"""What YAML calls a key `<<`, which takes another mapping's keys."""


def read_yaml(path: Path) -> Any:
    """Safe-load a YAML file; InputError names file, line and column of a syntax error, and repeated keys."""
    try:
        text = read_bounded(path, LIMIT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}".replace("\n", " ")) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path, most: int = NODES) -> Any:
    """The same of the text of the file `path`. most: how many nodes it may have with its aliases written out."""
    try:
        loader = UniqueKeyLoader(text)
        node = loader.get_single_node()
        if node is not None and _written_out(node, most, {}) > most:
            # How many may be a number of more digits than Python writes.
            raise InputError(f"{path}: more than {most} nodes with its aliases written out; write it without aliases")
        return None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {error.problem}; mend that line") from error
    except RecursionError:
        raise InputError(f"{path}: nested too deeply for YAML; write it with fewer brackets") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}".replace("\n", " ")) from error


def _written_out(node: yaml.Node, most: int, sizes: dict[int, int]) -> int:
    """How many nodes a node comes to once every alias is written out; a node within itself counts as more than `most`."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = most + 1
    below: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.MappingNode):
        below = [part for pair in node.value for part in pair]
    sizes[id(node)] = 1 + sum(_written_out(part, most, sizes) for part in below)
    return sizes[id(node)]


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing repeated keys."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, "`<<` isn't taken here: write the keys out", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key is a plain word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which quotes texts that `UniqueKeyLoader` would take for numbers."""


# YAML 1.2, and every editor that reads a suite by its schema, takes 1e-3 for a number; PyYAML's 1.1 wants a point and a sign in it.
for _kind in (UniqueKeyLoader, Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )
