"""Published chat templates, rendered, prompted, cooperated and exported."""

from __future__ import annotations

import pytest

from tests.families.checks import CHECKS
from tests.families.models_page import PAGE, page
from tests.families.published import PUBLISHED, TEMPLATES, Published


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=str(c), marks=pytest.mark.xdist_group(c.group)) for c in PUBLISHED],
)
def test_published_template(case: Published, check: str):
    if case.family is None and check != "rendered":
        return  # refused, so there is nothing else to check
    CHECKS[check](case)


def test_every_published_template_has_a_case():
    if not TEMPLATES.exists():
        pytest.skip(f"no folder {TEMPLATES}; the published templates are not in this repository")
    assert {file.stem for file in TEMPLATES.glob("*.jinja")} == {c.template for c in PUBLISHED}


def test_the_page_of_models_is_up_to_date():
    """Its marks are those of the tests above, which pass."""
    expected = page({(c.template, check): True for c in PUBLISHED for check in CHECKS})
    assert PAGE.read_text("utf-8") == expected, "run `make models-page`"
