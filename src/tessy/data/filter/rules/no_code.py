"""``no_code``: the problem asks for a program, and the answer has no code block.

A heuristic decides whether an English problem asks for a program: an unfinished function, words
such as "your code" or "write a Python program", or a contest's description of input and output.
Mathematical functions, television programs and door codes do not count.
"""

from __future__ import annotations

import re

from tessy.config.data import FilterConfig
from tessy.core.errors import ConfigError
from tessy.core.records import Trajectory
from tessy.data.filter.fences import split_fences
from tessy.data.filter.rule import FilterRule, RowCheck, problem_text

_LANGUAGE = (
    r"(?:python ?[23]?|java|c\+\+(?:\d\d)?|cpp|c#|javascript|typescript|golang|rust|kotlin|swift|"
    r"scala|haskell|ruby|php|perl|lua|matlab|julia|bash|sql|verilog|assembly|fortran)"
)
_EDGE, _END = r"(?<![\w+#])", r"(?![\w+#])"
_WRITE = (
    r"(?:write|implement|complete|finish|develop|create|provide|give|generate|design|code|build|"
    r"submit|output)"
)
# A problem about code starts with one of these words and has no verb of writing.
_ABOUT_CODE = (
    r"(?:(?:so|and|but|in|hi|hello)\W+)?(?:why|is|are|was|were|does|do|did|what|which|when|where|"
    r"who|how|compare|consider)\b"
    r"(?![^.?!\n]*\b(?:write|implement|complete|create|provide|give|generate|solve|fix|need)\b)"
)
_ASKS = re.compile(
    "|".join(
        [
            # "a Python function", "C++ code", "the Java class"; not "Why is this Python code slow?"
            rf"(?:^|[.?!]\s)(?!\s*{_ABOUT_CODE})[^.?!\n]{{0,300}}?"
            rf"(?P<named>{_EDGE}{_LANGUAGE}{_END}[ -](?:\w+[ -]){{0,2}}(?:programs?|functions?|"
            r"code|scripts?|solutions?|implementations?|class|query|method)\b)",
            # "solve it in Python", "using C++"; not "build a wall with Julia"
            rf"\b(?:solve|solution|{_WRITE})\b[^.?!\n]{{0,80}}\b(?:in|using|with)\s+"
            rf"(?!(?<=with )(?:julia|ruby)){_LANGUAGE}{_END}",
            r"\byour\s+(?:final\s+|own\s+|complete\s+)?(?:code|program|function|script|solution\s+class)\b",
            rf"\b{_WRITE}\s+(?:\w+\s+){{0,4}}?(?:source\s+code|code\s+(?:that|to|for|which|below)|"
            r"computer\s+program|programs?\s+(?:that|to|which)\s+(?:reads?|takes?|prints?|outputs?|"
            r"computes?|calculates?|finds?|determines?|simulates?|solves?|sorts?|checks?|counts?)|"
            r"sql\s+query|regular\s+expression|regex|subroutine)",
            rf"\b{_WRITE}\s+(?:the\s+|a\s+|an\s+)?(?:following\s+|recursive\s+)?"
            r"(?:functions?|methods?|class)\s+"
            # a name in backticks, a name unusual in formulas, or an action of programs
            r"(?:(?:called|named)\s+)?(?:`|\w+_\w+|\w+\s*\((?:\w+\s*:|\w+,\s*\w{3,}|[a-z]\w{2,}\))|"
            r"(?:that|which|to)\s+(?:takes?|accepts?|returns?|prints?|reverses?|sorts?|parses?)\b)",
            r"\b(?:write|implement|code)\s+(?:\w+\s+){1,3}?(?:programs?|scripts?)\b",
            # contest problems
            r"\b(?:from|to)\s+(?:stdin|stdout|standard\s+(?:input|output))\b",
            r"\bfirst\s+line\s+(?:of\s+[^.\n]{0,60})?(?:contains?|consists?|has|is\s+given)\b"
            r"(?s:.){0,6000}\b(?:output|print)",
            r"^[#* \t-]*(?:constraints|sample input|input format)\b(?s:.){0,6000}"
            r"^[#* \t-]*(?:sample output|output format|output)\b",
        ]
    ),
    re.IGNORECASE | re.MULTILINE,
)
_EXPLAINS = re.compile(
    r"\b(?:explain|describe)\b[^.?!\n]{0,60}\b(?:code|program|function|snippet)\b|"
    r"\bwhat\s+(?:does|do|is|will|would)\b[^.?!\n]{0,80}\b(?:code|program|function|snippet|script)\b"
    r"[^.?!\n]{0,40}\b(?:do|print|output|return|mean)|"
    r"\bwhat\s+(?:is|will be)\s+the\s+output\b|"
    r"\b(?:without|do\s+not|don't|no\s+need\s+to)\s+(?:\w+\s+){0,2}(?:writ\w+|code|program)\b",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"^[ \t]*(?:async )?def \w+\s*\(|^[ \t]*(?:public|private|static)\b[^\n(]*\([^\n)]*\)\s*\{|"
    r"^[ \t]*(?:func|fn|function) \w+\s*\(|^[ \t]*(?:[\w:<>,&*]+[ \t]+)+\w+\([^;{}\n]*\)\s*\{",
    re.MULTILINE,
)
_UNFINISHED = re.compile(
    r"(?:\"\"\"|'''|\bpass|\.\.\.|:|\{|(?:#|//)\s*(?:todo|your|write|implement|complete)[^\n]*\n?\s*\}?)"
    r"\s*(?:\}\s*)*;?\s*\Z",
    re.IGNORECASE,
)


def asks_for_code(problem: str) -> str | None:
    """Return the words of ``problem`` that ask for a program, or None."""
    if _EXPLAINS.search(problem):
        return None
    request = _ASKS.search(problem)
    if request is not None:
        return " ".join((request["named"] or request[0]).split())[:80]
    parts = split_fences(problem)
    for code in (*parts.blocks, parts.open or "", parts.prose):
        signature = _SIGNATURE.search(code)
        if signature is not None and _UNFINISHED.search(code):
            return signature[0].strip()
    return None


def without_code(problem: str, answer: str, *, required: bool = False) -> str | None:
    """Return the fault if ``answer`` lacks a closed code block; None if it has or needs none.

    An answer needs code if the problem asks for a program, or if ``required``.
    """
    if any(block.strip() for block in split_fences(answer).blocks):
        return None
    if required:
        return "no closed code block"
    request = asks_for_code(problem)
    return None if request is None else f"no closed code block, but the problem has {request!r}"


def _prepare(options: FilterConfig) -> RowCheck:
    def find(row: Trajectory) -> str | None:
        problem = problem_text(row.messages)
        return without_code(problem, row.answer, required=options.require_code)

    return RowCheck(find)


def _check_options(options: FilterConfig, applies: bool) -> None:
    if options.require_code and not applies:
        raise ConfigError("--require-code: has no effect, because --skip contains no_code")


RULE = FilterRule(
    name="no_code",
    position=40,
    finds="the problem asks for a program (or --require-code is set), the answer has no code block",
    prepare=_prepare,
    check_options=_check_options,
)
