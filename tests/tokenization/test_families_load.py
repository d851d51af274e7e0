"""Loading of tokenizers, and templates of other shapes than those of the families."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tessy.core.errors import InputError, ModelError
from tessy.core.records import Message
from tessy.inference.local.model import model_name
from tessy.tokenization.families import is_path, load_renderer, make_renderer
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import decode
from tests.families.patterns import FAMILIES

QUESTION = [Message(role="user", content="Why?")]


def with_template(template: str, *added: str | AddedToken) -> Any:
    """Return a ChatML tokenizer without thinking, with another template and added tokens."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FAMILIES / "chatml_plain")
    tokenizer.add_tokens(list(added))
    tokenizer.chat_template = template
    return tokenizer


def copy_of(name: str, folder: Path, **config: object) -> Path:
    """Copy the folder of a family, with keys of its tokenizer_config.json changed."""
    shutil.copytree(FAMILIES / name, folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


def whole_turn(renderer: Renderer) -> str:
    ids = [*renderer.prompt_ids(QUESTION), *renderer.close_ids("Hmm.")]
    return decode(renderer.codec, ids)


CHATML = """\
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def test_a_tokenizer_class_that_loses_spaces_is_not_used():
    """The Llama distillations of DeepSeek-R1 name a wrong class."""
    assert "LlamaTokenizerFast" in (FAMILIES / "r1_distill_llama/tokenizer_config.json").read_text()
    renderer = load_renderer(FAMILIES / "r1_distill_llama")
    assert renderer.prompt_text([Message(role="user", content="a b  c")]).endswith(
        "<｜User｜>a b  c<｜Assistant｜><think>\n"
    )


@pytest.mark.parametrize("name", ["./nowhere", Path("nowhere"), "~/nowhere-at-all"])
def test_the_error_for_a_missing_folder_names_it(name):
    with pytest.raises(ModelError, match=r"no folder .*nowhere"):
        load_renderer(name)


def test_a_name_below_an_existing_folder_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_path("runs/nothere")
    assert not is_path("gpt2")
    assert is_path("a/b/c")
    (tmp_path / "runs").mkdir()
    assert is_path("runs/nothere")
    assert not is_path("runs")
    for load in (load_renderer, model_name):
        with pytest.raises(ModelError, match="there is no folder 'runs/nothere'; pass the folder"):
            load("runs/nothere")
    assert model_name("some-org/some-model") == "some-org/some-model"


def test_the_error_for_an_unreachable_hub_id_suggests_a_local_folder(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"'some-org/some-model'.*local folder"):
        load_renderer("some-org/some-model")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(ModelError, match=r"no tokenizer\.json in this folder; copy") as fault:
        load_renderer(tmp_path)
    assert str(tmp_path) in str(fault.value)
    assert not {"sentencepiece", "network", "HF_TOKEN"} & set(re.findall(r"\w+", str(fault.value)))


def test_a_broken_tokenizer_file_is_refused(tmp_path):
    folder = copy_of("qwen3", tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelError, match="cannot load the tokenizer") as fault:
        load_renderer(folder)
    assert "network" not in str(fault.value)


def test_code_of_a_tokenizer_runs_only_with_trust_remote_code(tmp_path):
    folder = copy_of(
        "qwen3",
        tmp_path / "model",
        tokenizer_class="Theirs",
        auto_map={"AutoTokenizer": [None, "theirs.Theirs"]},
    )
    ran = tmp_path / "ran"
    (folder / "theirs.py").write_text(
        "from pathlib import Path\nfrom transformers import PreTrainedTokenizerFast\n"
        f"Path({str(ran)!r}).touch()\nclass Theirs(PreTrainedTokenizerFast): pass\n"
    )
    with pytest.raises(ModelError, match="trust_remote_code"):
        load_renderer(folder)
    assert not ran.exists()
    assert load_renderer(folder, trust_remote_code=True).family == "qwen3"
    assert ran.exists()


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path):
    folder = copy_of("qwen3", tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match=r"no chat template.*chat_template\.jinja"):
        load_renderer(folder)


def test_a_model_without_thinking_is_refused():
    with pytest.raises(ModelError, match="no token that ends the thinking"):
        load_renderer(FAMILIES / "chatml_plain")


def test_a_template_that_never_mentions_thinking_is_refused_unless_forced():
    """Qwen3-Instruct-2507 shares its vocabulary with thinking models."""
    tokenizer = with_template(CHATML, "<think>", "</think>")
    with pytest.raises(ModelError, match=r"never mentions <think>.*--student.force-thinking"):
        make_renderer(tokenizer)
    renderer = make_renderer(tokenizer, force_thinking=True)
    assert renderer.prompt_text(QUESTION).endswith("<|im_start|>assistant\n<think>\n")
    assert not renderer.shape.shown


def test_markers_that_are_not_single_tokens_are_refused():
    template = CHATML.replace("assistant\n'", "assistant\n<think>\n'")
    with pytest.raises(ModelError, match="no token that ends the thinking"):
        make_renderer(with_template(template))
    assert make_renderer(with_template(template, "</think>")).family == "generic"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "template"),
        ("{{ raise_exception('Only on Sundays') }}", "Only on Sundays"),
        ("{{ 1 + 'a' }}", "template"),
        ("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "drops the user's message"),
        (CHATML.replace("assistant\n'", "assistant\n<think>\n\n</think>\n\n'"), "does not open"),
    ],
)
def test_unusable_templates_are_refused_with_the_reason(template, message):
    with pytest.raises(ModelError, match=message):
        make_renderer(with_template(template, "<think>", "</think>"), force_thinking=True)


def test_a_model_without_an_end_of_turn_is_refused():
    tokenizer = with_template(
        "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}",
        "<think>",
        "</think>",
    )
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="eos_token"):
        make_renderer(tokenizer, force_thinking=True)


def test_the_error_for_a_rejected_conversation_has_the_templates_reason():
    renderer = load_renderer(FAMILIES / "metaspace")
    with pytest.raises(InputError, match=r"roles: system, user\): System role not supported"):
        renderer.prompt_ids([Message(role="system", content="Be brief."), *QUESTION])


@pytest.mark.parametrize("text", ["ab\ud83d", "<|im_end|>\ud83d"])
def test_a_lone_surrogate_in_a_message_is_an_input_error(text):
    with pytest.raises(InputError, match="lone surrogate"):
        load_renderer(FAMILIES / "qwen3").prompt_ids([Message(role="user", content=text)])


GLM = """\
[gMASK]{% for m in messages %}
{%- if m.role == 'assistant' %}{{ '<|assistant|>' }}
{%- if m.reasoning_content is defined %}
{{- '\n<think>' + m.reasoning_content + '</think>' }}{% endif %}
{{- '\n' + m.content }}{% else %}{{ '<|user|>\n' + m.content }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
MAGISTRAL = """\
{{ bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}
{%- else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"""
V31 = """\
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}
{%- else %}{{ '<｜Assistant｜></think>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}
{{- '<think>' if thinking else '</think>' }}{% endif %}"""


@pytest.mark.parametrize(
    ("template", "added", "expected", "earlier"),
    [
        (
            GLM,
            ["[gMASK]", "<|user|>", "<|assistant|>", "<think>", "</think>"],
            "[gMASK]<|user|>\nWhy?<|assistant|>\n<think>Hmm.</think>\n",
            "<|assistant|>\n<think>Ponder.</think>\nDone.",
        ),
        (
            MAGISTRAL,
            ["[INST]", "[/INST]", "[THINK]", "[/THINK]"],
            "[INST]Why?[/INST][THINK]Hmm.[/THINK]",
            "[THINK]Ponder.[/THINK]Done.<|im_end|>",
        ),
        (
            V31,
            ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"],
            "<｜User｜>Why?<｜Assistant｜><think>Hmm.</think>",
            "<｜Assistant｜></think>Done.<|im_end|>",
        ),
    ],
    ids=["glm", "magistral", "deepseek-v3.1"],
)
def test_other_shapes_are_detected_from_the_template(template, added, expected, earlier):
    tokenizer = with_template(template, *added)
    tokenizer.bos_token = "<|endoftext|>"
    renderer = make_renderer(tokenizer, force_thinking=True)
    assert whole_turn(renderer).removeprefix("<|endoftext|>") == expected
    thought = Message(role="assistant", content="<think>\nPonder.\n</think>\n\nDone.")
    assert earlier in renderer.prompt_text([*QUESTION, thought, *QUESTION])
    ids = renderer.prompt_ids([*QUESTION, thought, *QUESTION])
    marks = [renderer.codec.token_bytes(i).decode() for i in ids if i in renderer.codec.control_ids]
    assert "".join(marks).count("hink>") + "".join(marks).count("HINK]") == earlier.count(
        "hink>"
    ) + (earlier.count("HINK]") + 1)


def test_a_template_that_closes_the_thinking_twice_gets_the_default_shape():
    """The thinking ends at the first marker, so no second one can follow."""
    tokenizer = with_template(
        GLM.replace("'</think>'", "'</think>\\n</think>'"),
        *["[gMASK]", "<|user|>", "<|assistant|>", "<think>", "</think>"],
    )
    assert "</think>\\n</think>" in tokenizer.chat_template
    text = whole_turn(make_renderer(tokenizer))
    assert text == "[gMASK]<|user|>\nWhy?<|assistant|><think>\nHmm.\n</think>\n\n"


def test_a_harmony_template_that_closes_the_thinking_twice_is_refused():
    template = (FAMILIES / "harmony/chat_template.jinja").read_text("utf-8")
    assert "message.thinking + '<|end|>'" in template
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FAMILIES / "harmony")
    tokenizer.chat_template = template.replace("thinking + '", "thinking + '<|end|>")
    with pytest.raises(ModelError, match="does not open the thinking"):
        make_renderer(tokenizer)


def test_a_template_with_changing_output_is_supported():
    """A system message with the date, as gpt-oss has; here with microseconds."""
    template = (FAMILIES / "harmony/chat_template.jinja").read_text("utf-8")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FAMILIES / "harmony")
    tokenizer.chat_template = "{{ strftime_now('%f') }}" + template
    renderer = make_renderer(tokenizer)
    assert whole_turn(renderer).endswith(
        "Why?<|end|><|start|>assistant<|channel|>analysis<|message|>Hmm."
        "<|end|><|start|>assistant<|channel|>final<|message|>"
    )


def test_white_space_next_to_markup_that_absorbs_it_is_kept():
    """Phi's end markers take the line break after them."""
    tokenizer = with_template(CHATML, AddedToken("<|end|>", rstrip=True), "<think>", "</think>")
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<|end|>")
    renderer = make_renderer(tokenizer, force_thinking=True)
    marked = [
        Message(role="user", content="One <|end|>\n two."),
        Message(role="assistant", content="Fine."),
        *QUESTION,
    ]
    text = renderer.prompt_text(marked)
    assert text == (
        "<|im_start|>user\nOne <|end|>\n two.<|end|><|im_start|>assistant\nFine.<|end|>"
        "<|im_start|>user\nWhy?<|end|><|im_start|>assistant\n<think>\n"
    )
    plain = [marked[0].model_copy(update={"content": "One two."}), *marked[1:]]
    ids, others = renderer.prompt_ids(marked), renderer.prompt_ids(plain)
    tail = others.index(tokenizer.convert_tokens_to_ids("<|end|>")) - len(others)
    assert ids[tail:] == others[tail:]


@pytest.mark.parametrize(("role", "family"), [("student", "qwen3"), ("teacher", "harmony")])
def test_the_bundled_models_can_be_loaded(role, family):
    import tessy.lab

    renderer = load_renderer(Path(tessy.lab.__file__).parent / "models" / role)
    assert renderer.family == family
    assert whole_turn(renderer) == renderer.prompt_text(QUESTION) + "Hmm." + renderer.shape.closing
