import pytest

from tessy.core.errors import ConfigError
from tessy.core.extras import check_installed


def test_missing_libraries_are_named_with_their_extras():
    check_installed("testing", {"pytest": "dev"})
    libraries = {"pytest": "dev", "no_such_a": "one", "no_such_b": "two", "no_such_c": "one"}
    with pytest.raises(ConfigError) as caught:
        check_installed("testing", libraries)
    assert str(caught.value) == (
        "testing needs no_such_a and no_such_b and no_such_c, not installed here: "
        'pip install "tessy[one,two]"'
    )
