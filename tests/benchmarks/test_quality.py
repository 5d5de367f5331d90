"""The table: what is compared with what, limits and verdicts, and what is told of wrong arguments."""

import json

import numpy as np
import pytest
from quality import LINES, TUNING_LINES, Limit, Line, main, make_report
from quality_sets import SETS, Scores
from quality_tuning import TUNING_SETS


def scores(values, **options):
    n = len(values)
    parts = ["de", "en"] * (n // 2)
    return Scores(np.array(values, float), parts, [str(row // 2) for row in range(n)], **options)


def test_limits_are_kept_or_missed():
    assert Limit(0.66, "score").verdict(0.66, 0.0) == "reached"
    assert Limit(0.66, "score").verdict(0.65, 0.5) == "missed"
    assert Limit(0.45, "score", at_most=True).verdict(0.5, -0.4) == "missed"
    assert Limit(-0.005).verdict(0.9, -0.004) == "reached"
    assert Limit(-0.005).verdict(0.9, -0.006) == "missed"
    assert [
        str(limit) for limit in (Limit(0.66, "score"), Limit(-0.005), Limit(0.45, "score", at_most=True))
    ] == [
        "≥ 0.660",
        "≥ -0.005",
        "≤ 0.450",
    ]


def test_every_row_has_its_set():
    assert {line.set_name for line in LINES} == SETS.keys()
    assert {line.set_name for line in TUNING_LINES} == TUNING_SETS.keys()
    assert sum(line.counts for line in LINES) == 8


def test_a_report_compares_with_the_first():
    base, better = scores([0.5, 0.4] * 20), scores([0.6, 0.4] * 20)
    lines = [
        Line("a", "mAP", "set a", Limit(0.03)),
        Line("a", "mAP", "worst", Limit(-0.01), counts=False, worst=True),
        Line("b", "mAP", "set b", Limit(0.5, "score")),
        Line("c", "mAP", "not measured"),
    ]
    first = {"a": {"mAP": base}, "b": {"mAP": better}}
    second = {"a": {"mAP": better}, "b": {"mAP": base}}
    rows = make_report({"one": first, "two": second}, lines)
    assert [row["label"] for row in rows] == ["set a", "worst", "set b", "mean of 2 sets"]
    a, worst, b, mean = (row["models"] for row in rows)
    assert a["one"] == {"score": pytest.approx(0.45), "parts": pytest.approx({"de": 0.5, "en": 0.4})}
    assert a["two"]["difference"] == pytest.approx(0.05)
    assert a["two"]["low"] == a["two"]["high"] == pytest.approx(0.05)
    assert a["two"]["verdict"] == "reached"
    # Twenty pairs of questions that all agree: the outcome itself and nothing else of 10,000 draws.
    assert a["two"]["p"] == pytest.approx(1 / 10_001, abs=2e-4)
    assert a["two"]["p_holm"] == pytest.approx(2 * a["two"]["p"])
    assert worst == {
        "one": {},
        "two": {"part": "en", "difference": 0, "n_beyond_limit": 0, "verdict": "reached"},
    }
    assert b["two"]["verdict"] == "missed"
    assert mean["two"]["score"] == pytest.approx(0.5 * (0.5 + 0.45))
    assert mean["two"]["difference"] == pytest.approx(0)


def test_questions_or_parts_are_averaged_as_the_scores_are():
    lines = [Line("a", "mAP", "a")]
    plain = {"values": [0.0] * 6, "parts": ["de"] * 5 + ["en"], "clusters": list("abcdef")}
    for by_part, difference in ((True, 0.5), (False, 1 / 6)):
        one = Scores(**plain | {"values": np.zeros(6)}, by_part=by_part)
        other = Scores(**plain | {"values": np.array([0, 0, 0, 0, 0, 1.0])}, by_part=by_part)
        rows = make_report({"one": {"a": {"mAP": one}}, "two": {"a": {"mAP": other}}}, lines)
        assert rows[0]["models"]["two"]["difference"] == pytest.approx(difference)


def test_the_worst_part_is_named():
    base, other = scores([0.5, 0.4] * 20), scores([0.45, 0.6] * 20)
    lines = [Line("a", "mAP", "worst", Limit(-0.01), worst=True)]
    figures = make_report({"one": {"a": {"mAP": base}}, "two": {"a": {"mAP": other}}}, lines)[0]["models"][
        "two"
    ]
    assert figures["part"] == "de"
    assert figures["difference"] == pytest.approx(-0.05)
    assert (figures["n_beyond_limit"], figures["verdict"]) == (1, "missed")


@pytest.fixture
def in_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("in_cache")
def test_the_whole_table_of_two_models(tiny_data, checkpoint, tmp_path, capsys):
    models = [str(checkpoint(seed=seed)) for seed in (1, 2)]
    chosen = "xquad-r,xquad,xquad-cross,tydi,pooled,mlqa-xling,afriqa"
    arguments = ["--data", str(tiny_data), "--sets", chosen, "--json", str(tmp_path / "out.json")]
    main([*arguments, "--model", models[0], "--model", models[1]])
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + len(LINES) - 1 + 1
    assert len({line.count("|") for line in table}) == 1
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert list(report["models"]) == models
    by_label = {row["label"]: row for row in report["lines"]}
    row = by_label["XQuAD-R, 11 languages, one pool (mAP)"]
    assert len(row["models"][models[1]]["parts"]) == 11
    assert row["limit"] == "≥ 0.660"
    assert (
        len(by_label["XQuAD, question in X, paragraphs in Y, 132 pairs (mean)"]["models"][models[0]]["parts"])
        == 132
    )
    # Again, from the vectors that are kept: nothing differs.
    main([*arguments, "--model", models[0], "--model", models[1]])
    assert capsys.readouterr().out.splitlines() == table


@pytest.mark.usefixtures("in_cache")
def test_tuning_with_one_model(tiny_data, checkpoint, capsys):
    main(["--data", str(tiny_data), "--tuning", "--sets", "mlqa-pool, dev", "--model", str(checkpoint())])
    table = capsys.readouterr().out.splitlines()
    assert table[0].endswith("| limit |")
    assert [line.split("|")[1].strip()[:12] for line in table[2:]] == [
        "MLQA held ou",
        "— first hits",
        "Dev question",
        "mean of 2 se",
    ]


@pytest.mark.usefixtures("in_cache")
def test_missing_sets_are_named(tmp_path, checkpoint, capsys):
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--sets", "afriqa", "--model", str(checkpoint())])
    assert f"{tmp_path / 'train' / 'multi-afriqa'} is not here" in capsys.readouterr().err


@pytest.mark.usefixtures("in_cache")
def test_stopping_is_no_traceback(monkeypatch, tiny_data, checkpoint, capsys):
    def stop(self, texts, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mretrieve.encode.encoder.Encoder.encode_queries", stop)
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(tiny_data), "--sets", "afriqa", "--model", str(checkpoint())])
    assert stopped.value.code == 130
    assert "The same command goes on from here." in capsys.readouterr().err


@pytest.mark.usefixtures("in_cache")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sets", "xquad,xqad"], "There is no set 'xqad'. Choose from: xquad-r,"),
        (["--tuning", "--sets", "xquad"], "There is no set 'xquad'. Choose from: mlqa-pool,"),
        (["--model", "e5-smal"], "Unknown model 'e5-smal'. Did you mean e5-small?"),
        (["--model", "e5-small", "--model", "e5-small"], "A model was named twice"),
        (["--data", "/nowhere"], "/nowhere is not here: name the data folder with --data"),
    ],
)
def test_wrong_arguments_are_told(arguments, message, tiny_data, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(tiny_data), *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
