"""The console's scripts as one file.

Each module becomes a function that is called once and returns what the module exports, in an order in which all that a
module imports stands before it. A browser that gets one file instead of forty asks once, and not again and again on the
way from import to import; the API, which answers reads as well, is asked once. What is understood is named imports of
modules beside it and exports of constants, functions and classes, each at the beginning of a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Final

IMPORT: Final = re.compile(r'^import \{(?P<names>[^}]+)\} from "\./(?P<module>\w+\.js)";\n', re.MULTILINE)
EXPORT: Final = re.compile(r"^export (?=(?:const|class|(?:async )?function\*?) (?P<name>[$\w]+))", re.MULTILINE)
LEFT: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def one_script(modules: Mapping[str, str]) -> str:
    """All modules, by name, as one script, the same for the same modules.

    ValueError where one has an import or export of another form, or imports what is not there or not exported;
    CycleError where modules import each other in a circle.
    """
    imported = {name: [found["module"] for found in IMPORT.finditer(text)] for name, text in modules.items()}
    if missing := {module for names in imported.values() for module in names} - modules.keys():
        raise ValueError(f"scripts import what is not there: {', '.join(sorted(missing))}")
    exported = {name: EXPORT.findall(text) for name, text in modules.items()}
    order = TopologicalSorter(imported).static_order()
    return "\n".join(_function(name, modules[name], exported) for name in order)


def _function(name: str, text: str, exported: Mapping[str, Sequence[str]]) -> str:
    body = EXPORT.sub("", IMPORT.sub("", text))
    if left := LEFT.search(body):
        raise ValueError(f"{name} has an import or export of a form that is not understood: {left[0][:100]}")
    taken = "".join(_taken(name, module, names, exported[module]) for names, module in IMPORT.findall(text))
    given = ", ".join(exported[name])
    return f"// {name}\nconst {_variable(name)} = (() => {{\n{taken}{body}return {{ {given} }};\n}})();\n"


def _taken(name: str, module: str, names: str, exported: Sequence[str]) -> str:
    """What a module takes of another. What that does not export would be undefined, without a word."""
    wanted = {one.split(" as ")[0].strip() for one in names.split(",")} - {""}
    if unknown := wanted - set(exported):
        raise ValueError(f"{name} imports what {module} does not export: {', '.join(sorted(unknown))}")
    return f"  const {{{names.replace(' as ', ': ')}}} = {_variable(module)};\n"


def _variable(module: str) -> str:
    return "$" + module.removesuffix(".js")
