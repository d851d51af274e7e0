"""The examples: their commands are valid, and their prompts can be rendered.

tests/config/test_toml.py loads every TOML file of the examples.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tessy.config.base import RoleConfig
from tessy.config.options import parse
from tessy.config.synthesis import DoctorConfig, SynthesizeConfig
from tessy.config.toml import load_config
from tessy.core.records import AUTHORS, Message
from tessy.lab.bundled import (
    ANSWER_TOKENS,
    THINKING_TOKENS,
    demo_problems,
    model_path,
    predictor_path,
)
from tessy.storage.problems import load_problems
from tessy.synthesis.setup import load_renderers
from tessy.tokenization.token_ids import decode
from tests.families.patterns import FAMILIES

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAPER = ("paper_code.toml", "paper_math.toml")

# The tokenizer used in place of each model's, and the end of its prompt.
STAND_INS = {
    "Qwen/Qwen3-8B": ("qwen3", "<|im_start|>assistant\n<think>\n"),
    "Qwen/Qwen3-30B-A3B": ("qwen3", "<|im_start|>assistant\n<think>\n"),
    "Qwen/Qwen3-235B-A22B-Thinking-2507": ("qwen3_thinking", "<|im_start|>assistant\n<think>\n"),
    "openai/gpt-oss-120b": ("harmony", "<|start|>assistant<|channel|>analysis<|message|>"),
    "deepseek-ai/DeepSeek-R1-0528": ("deepseek_r1", "<｜Assistant｜><think>\n"),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": ("r1_distill_llama", "<｜Assistant｜><think>\n"),
}
QUESTION = "Print the largest of three numbers."


def commands(name: str) -> list[list[str]]:
    """Return the command lines in the comments of an example."""
    comments = "\n".join(
        line.removeprefix("#") for line in (EXAMPLES / name).read_text("utf-8").splitlines()
    ).replace("\\\n", " ")
    lines = re.findall(r"^ +((?:tessy|vllm) .*?)(?: +# .*)?$", comments, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def of_tessy(name: str) -> list[SynthesizeConfig]:
    configs = []
    for program, command, *options in filter(lambda line: line[0] == "tessy", commands(name)):
        prog = f"{program} {command}"
        if command == "synthesize":
            configs.append(parse(SynthesizeConfig, options, prog=prog))
        else:
            assert command == "doctor"
            parse(DoctorConfig, options, prog=prog)
    return configs


def test_every_pair_of_the_paper_has_its_own_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    configs = [config for name in PAPER for config in of_tessy(name)]
    assert {(config.student.model, config.teacher.model) for config in configs} == {
        ("Qwen/Qwen3-8B", "openai/gpt-oss-120b"),
        ("Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-R1-0528"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-235B-A22B-Thinking-2507"),
        ("Qwen/Qwen3-30B-A3B", "openai/gpt-oss-120b"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "openai/gpt-oss-120b"),
    }
    assert len({config.out for config in configs}) == len(configs)


@pytest.mark.parametrize("name", PAPER)
def test_sampling_and_limits_are_those_of_the_paper(name):
    config = load_config(SynthesizeConfig, EXAMPLES / name)
    for role in (config.student, config.teacher):
        sampling = role.sampling
        drawn = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p)
        assert drawn == (0.7, 0.8, 20, 0.0)
        assert role.predictor.startswith("CoopReason/Boundary_Predictor_")
    assert config.thinking_tokens + config.answer_tokens == 38_000
    assert (config.cut, config.attempts) == ("discard", 5)
    assert config.teacher.reasoning_effort == "high"


@pytest.mark.parametrize("name", PAPER)
def test_every_model_has_a_command_that_starts_its_server(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    served = {
        line[2]: f"http://127.0.0.1:{line[line.index('--port') + 1]}"
        for line in commands(name)
        if line[:2] == ["vllm", "serve"]
    }
    for line in commands(name):
        if line[0] == "vllm":
            assert line[line.index("--max-model-len") + 1] == "40960"
            assert "--enable-scale-out" in line
            assert ("--prefix-cache-retention-interval" in line) == ("gpt-oss" in line[2])
    for config in of_tessy(name):
        for role in (config.student, config.teacher):
            assert role.url == (served[role.model],)
    used = {role.model for c in of_tessy(name) for role in (c.student, c.teacher)}
    assert used == served.keys()


@pytest.mark.parametrize("name", PAPER)
def test_prompts_can_be_rendered_for_each_model(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    for config in of_tessy(name):
        roles: dict[str, RoleConfig] = {
            author: getattr(config, author).model_copy(
                update={"tokenizer": str(FAMILIES / STAND_INS[getattr(config, author).model][0])}
            )
            for author in AUTHORS
        }
        renderers = load_renderers(config.model_copy(update=roles))
        for author in AUTHORS:
            ids = renderers[author].prompt_ids((Message(role="user", content=QUESTION),))
            prompt = decode(renderers[author].codec, ids)
            assert QUESTION in prompt
            assert prompt.endswith(STAND_INS[roles[author].model][1])
            if "gpt-oss" in roles[author].model:
                assert "Reasoning: high" in prompt


def test_the_baselines_use_the_bundled_models():
    config = load_config(SynthesizeConfig, EXAMPLES / "baselines.toml")
    for author in AUTHORS:
        role = getattr(config, author)
        assert ROOT / role.model == model_path(author)
        assert ROOT / role.predictor == predictor_path(author)
    assert (config.thinking_tokens, config.answer_tokens) == (THINKING_TOKENS, ANSWER_TOKENS)
    assert config.score_by == "answer"


def test_the_baselines_have_the_problems_of_the_demo():
    config = load_config(SynthesizeConfig, EXAMPLES / "baselines.toml")
    loaded = load_problems([ROOT / file for file in config.problems])
    assert loaded.problems == tuple(demo_problems(40, 0))
    assert loaded.faults == ()
