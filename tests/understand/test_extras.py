import sys

import pytest

from mretrieve.errors import MissingDependencyError
from mretrieve.understand.extras import optional


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    with pytest.raises(MissingDependencyError, match=r"need scipy, .* `pip install 'mretrieve\[train\]'`"):
        optional("scipy.cluster.hierarchy")
