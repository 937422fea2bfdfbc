"""The console's scripts as one file: what is understood, and what is refused."""

from __future__ import annotations

import re
from graphlib import CycleError

import pytest

from backend.app.console.scripts import one_script


def test_each_module_stands_after_what_it_imports() -> None:
    modules = {
        "a.js": 'import { x as y } from "./b.js";\nimport {\n  f,\n  K,\n} from "./c.js";\ny(f, K);\n',
        "b.js": 'import { f } from "./c.js";\nconst secret = 1;\nexport const x = () => f(secret);\n',
        "c.js": "export async function f() {}\nexport class K {}\n",
    }

    script = one_script(modules)

    assert re.findall(r"^// (\w+)", script, re.MULTILINE) == ["c", "b", "a"]
    assert "const { x: y } = $b;" in script
    assert "return { f, K };" in script
    assert "return { x };" in script


@pytest.mark.parametrize(
    "line",
    ['import "./b.js";', 'import * as b from "./b.js";', "export default 1;", "export { x };", "export let x = 1;"],
)
def test_a_form_that_is_not_understood_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.js.*{re.escape(line[:12])}"):
        one_script({"a.js": f"const x = 1;\n{line}\n", "b.js": ""})


@pytest.mark.parametrize("wanted", ["y", "x, y", "y as x", "x,\n  y,\n"])
def test_what_a_module_does_not_export_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"a\.js imports what b\.js does not export: y"):
        one_script({"a.js": f'import {{ {wanted} }} from "./b.js";\n', "b.js": "export const x = 1, y = 2;\n"})


def test_a_module_that_is_not_there_and_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gone\.js"):
        one_script({"a.js": 'import { x } from "./gone.js";\n'})
    with pytest.raises(CycleError):
        one_script({"a.js": 'import { x } from "./b.js";\n', "b.js": 'import { x } from "./a.js";\n'})
