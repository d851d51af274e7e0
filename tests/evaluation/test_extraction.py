"""Programs in answers."""

from __future__ import annotations

import pytest

from tessy.evaluation.programs.extraction import cpp_program, marked_program, python_program

MAIN = '#include <bits/stdc++.h>\nusing namespace std;\n\nint main() {\n  if (1) { puts("{}"); }\n}'


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("```python\nx\n```", "x"),
        ("```py\nx\n```\nand\n```\ny\n```", "y"),
        ("```Python3\nx\n```\n```cpp\ny\n```\n```text\nz\n```", "x"),
        ("```python\nx\n```\nBetter:\n```python\ny\n", "x"),  # cut off
        ("```python\nx\n```\nprose\n```", "x"),  # an odd number of fences
        ("   ```python\n   if x:\n       y\n   ```", "if x:\n    y"),
        ("~~~python\nx = '```'\n~~~", "x = '```'"),
        ("````python\nx\n```\ny\n````", "x\n```\ny"),
        ("```python\nx\n```   \nend", "x"),
        ("```python\r\nx\r\n```\r\n", "x"),
        ("```python\n\n```", None),
        ("print(1)", None),
        ("`x`", None),
        ("```python x\n", None),
        ("", None),
    ],
)
def test_python(answer, program):
    assert python_program(answer) == program


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (f"```cpp\n{MAIN}\n```", MAIN),
        (f"```cpp\n{MAIN}\n```\nThe loop:\n```cpp\nwhile (true);\n```", MAIN),
        (f"```cpp\n{MAIN}\n```\n```python\n#include\n```", MAIN),
        (f"First.\n{MAIN}\nThat is all: {{}}.", MAIN),
        (f"```c++\n{MAIN}\n```", MAIN),
        (f"{MAIN}\n#include <x>\nint main() {{", MAIN),  # the last one is not closed
        ("int main() { return 0; }", None),  # no includes
        ("#include <x>\nint main();", None),
        ("#include <x>\nint main() }", None),
        ("```python\nprint(1)\n```", None),
    ],
)
def test_cpp(answer, program):
    assert cpp_program(answer) == program


def test_an_answer_without_a_block_of_the_language_is_the_program():
    assert marked_program("a\n```cpp\nx\n```\n```python\ny\n```", "cpp") == "x"
    assert marked_program("print(1)", "python") == "print(1)"
