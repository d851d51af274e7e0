import json
from pathlib import Path

from tessy.storage.cards import fenced, front_matter, listed, short_digest, write_card


def test_a_card_is_a_document_and_a_page(tmp_path: Path):
    write_card(tmp_path, "card.json", {"loss": 0.5, "name": "é"}, "# Card of \udcff\n")
    assert json.loads((tmp_path / "card.json").read_bytes()) == {"loss": 0.5, "name": "é"}
    assert (tmp_path / "README.md").read_text("utf-8") == "# Card of \\udcff\n"


def test_front_matter_holds_scalars_and_lists():
    block = front_matter({"license": "mit", "tags": ["tessy", "reasoning"], "seed": "0"})
    assert block == "---\nlicense: mit\ntags:\n- tessy\n- reasoning\nseed: 0\n---\n"


def test_text_cannot_close_its_fence():
    assert fenced("a") == "```text\na\n```\n"
    assert fenced("a ```` b") == "`````text\na ```` b\n`````\n"


def test_values_on_a_line():
    assert listed({"torch": "2.9", "seed": 3}) == "torch 2.9, seed 3"
    assert short_digest("0123456789abcdef0123") == "0123456789abcdef…"
