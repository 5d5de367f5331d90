import importlib.util
import re
import subprocess
import sys

import pytest
from mretrieve.ui import theme


def test_style_and_script_name_no_other_host():
    for text in (theme.style(), theme.head()):
        assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text


def test_braces_of_the_style_are_balanced():
    depth = 0
    for brace in re.findall("[{}]", theme.style()):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_each_colour_has_a_dark_side():
    light, dark = (
        re.search(rf"{name} {{(.*?)}}", theme.style(), re.DOTALL)[1] for name in (":root", r"\.dark")
    )
    names = [set(re.findall(r"--[\w]+", part.replace("var(--accent)", ""))) for part in (light, dark)]
    assert names[0] - names[1] == {"--focus"}  # which follows the accent
    assert names[1] <= names[0]


def test_fonts_are_of_this_machine():
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed")
    code = "from mretrieve.ui import theme\nmade = theme.theme()\nassert made._stylesheets == []\n"
    code += "assert not any('@font-face' in css for css in made._font_css if css)"
    subprocess.run([sys.executable, "-c", code], check=True)  # Gradio leaves its event loops open
