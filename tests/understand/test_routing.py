import json
import sys

import numpy as np
import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.understand.routing import routing_report
from tests.understand.data import write_rows


@pytest.fixture(scope="module")
def made(sparse, parallel, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "report"
    seen = []
    report = routing_report(sparse, parallel, out, on_progress=lambda *step: seen.append(step))
    return report, out, seen


def test_load_is_a_share_and_english_is_its_own_measure(made):
    report, _, _ = made
    assert report.languages == ("en", "de", "fr", "zh")
    assert report.layers == (1, 3)
    assert report.load.shape == (2, 4, 4)
    assert report.load.sum(axis=2) == pytest.approx(1.0)
    assert report.special_load.sum(axis=1) == pytest.approx(1.0)
    assert report.divergence[:, 0].tolist() == [0.0, 0.0]
    assert (report.divergence[:, 1:] > 0).all()
    assert (report.divergence >= report.divergence_bits / 2).all(), "the room is at most log2 4 bits"
    assert ((report.entropy_bits > 0) & (report.entropy_bits <= 2)).all()
    assert np.allclose(report.distances, report.distances.T)


def test_the_files(made):
    report, out, _ = made
    names = {"README.md", "routing.json", "load.png", "divergence.png", "tree.png"}
    assert {path.name for path in out.iterdir()} == names
    for name in ("load", "divergence", "tree"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "routing.json").read_text(encoding="utf-8"))
    assert content["languages"]["fr"]["load"] == np.round(report.load[:, 2], 6).tolist()
    assert content["tree"]["newick"] == report.newick
    assert {"en", "de", "fr", "zh"} == set(content["tree"]["languages"])
    page = (out / "README.md").read_text(encoding="utf-8")
    assert f"| de | {report.n_tokens[1]} | {report.divergence[0, 1]:.3f} |" in page
    assert "![Load of experts](load.png)" in page


def test_progress_ends_at_the_number_of_texts(made):
    assert made[2][-1] == ("routing", 16, 16)


def test_the_same_report_again_takes_the_place_of_the_old_one(made, sparse, parallel):
    _, out, _ = made
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    routing_report(sparse, parallel, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_languages_may_be_chosen(sparse, parallel, tmp_path):
    report = routing_report(sparse, parallel, tmp_path / "r", langs=["zh"], limit=2)
    assert report.languages == ("en", "zh")
    assert report.n_rows == 2


def test_languages_route_by_their_ids(parallel, tmp_path):
    """A model that routes by language alone: every text of one goes the same way."""
    from mretrieve.models.nomic_files import save_nomic_moe
    from tests.models.nomic import tiny_config, tiny_model
    from tests.understand.data import sparse_folder

    config = tiny_config(router="language", languages=("de", "fr"), moe_top_k=1)
    model = tiny_model(config)
    folder = tmp_path / "model"
    save_nomic_moe(model, folder, tokenizer=sparse_folder(tmp_path / "tokenizer"))
    report = routing_report(folder, parallel, tmp_path / "r", langs=["de", "fr"])
    rows = model.encoder.layers[1].mlp.router.languages.weight.argmax(dim=1).tolist()
    assert report.load[0].argmax(axis=1).tolist() == rows
    assert report.load[0].max(axis=1).tolist() == [1.0, 1.0, 1.0]


def test_a_dense_model_has_nothing_to_report(model, parallel, tmp_path):
    with pytest.raises(InputError, match="has no layers of experts, .* `mretrieve upcycle`"):
        routing_report(model, parallel, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_one_language_is_not_enough(sparse, tmp_path):
    path = write_rows(tmp_path / "p.jsonl", [{"eng": "a"}])
    with pytest.raises(InputError, match="must give one beside English"):
        routing_report(sparse, path, tmp_path / "report")


def test_something_else_in_the_way_is_found_before_any_work(sparse, parallel, tmp_path):
    (tmp_path / "notes.txt").touch()
    seen = []
    with pytest.raises(InputError, match="something else"):
        routing_report(sparse, parallel, tmp_path, on_progress=lambda *step: seen.append(step))
    assert not seen


def test_without_matplotlib(sparse, parallel, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match="matplotlib"):
        routing_report(sparse, parallel, tmp_path / "report")
