import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def program():
    """The module `build_program.py` beside this file: small builds with a made-up encoder."""
    path = Path(__file__).with_name("build_program.py")
    spec = importlib.util.spec_from_file_location("build_program", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_program"] = module
    spec.loader.exec_module(module)
    return module
