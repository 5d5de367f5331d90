import subprocess
import sys

import pytest

HOOK = "import sys; from mretrieve.models.register import register_on_import; register_on_import()\n"
KNOWN = """
from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel
assert CONFIG_MAPPING["mretrieve_nomic_moe"] is NomicMoEConfig
assert AutoModel._model_mapping[NomicMoEConfig] is NomicMoEModel
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_hook_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'sentence_transformers', 'numpy'}"
    run(f"{HOOK}assert not {heavy} & sys.modules.keys()")


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        HOOK + "from transformers import AutoConfig, AutoModel",
        HOOK + "import sentence_transformers",
        "from transformers import AutoConfig\n"
        + HOOK
        + HOOK
        + "from mretrieve.models.register import register\n"
        "register(); register()",
        HOOK + "import mretrieve.models.nomic_moe",
    ],
    ids=["before", "library", "after and again", "own"],
)
def test_the_classes_are_known_whatever_comes_first(code):
    run(code + KNOWN)


@pytest.mark.slow
def test_the_hook_registers_the_config_without_torch_models():
    run(
        HOOK
        + "from transformers.models.auto.configuration_auto import CONFIG_MAPPING\n"
        + "assert CONFIG_MAPPING['mretrieve_nomic_moe'].__name__ == 'NomicMoEConfig'\n"
        + "assert 'mretrieve.models.nomic_moe' not in sys.modules\n"
        + "module = sys.modules['transformers.models.auto.configuration_auto']\n"
        + "assert type(module.__loader__).__module__ != 'mretrieve.models.register'"
    )
